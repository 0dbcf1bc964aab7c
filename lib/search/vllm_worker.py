"""The process that samples for lib/search/vllm.py, in vLLM's own environment.

Takes JSON lines on standard input, first the engine's settings and then requests; answers each with
one JSON line on standard output, `{"error": ...}` where it failed. Ends with its input. Knows
nothing of trees, text or tasks, and imports nothing of ours: this environment holds other versions
of what the rest of `lib` is tested with.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

STEP_TOKENS = 4096  # computed at once: prompts, and one token of each sample that goes on


def start(settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """vLLM's engine, and what it is."""
    import vllm
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    cache_gb = settings["cache_gb"] or (1 if on_cpu else 0)
    engine = vllm.LLM(
        model=settings["model"],
        dtype=settings["dtype"],
        skip_tokenizer_init=True,
        generation_config="vllm",  # none of the checkpoint's: only what a request says
        max_model_len=settings["context"],
        max_num_seqs=settings["sequences"],
        enable_prefix_caching=True,
        # A prompt split between two steps would move its random stream on, and fails on the CPU.
        enable_chunked_prefill=False,
        max_num_batched_tokens=max(STEP_TOKENS, settings["context"]),
        block_size=32 if on_cpu else None,  # the CPU's default shares no prefix under 128 tokens
        kv_cache_memory_bytes=int(cache_gb * 2**30) or None,
        enforce_eager=on_cpu,  # compiling takes longer than a search
        tensor_parallel_size=settings["tensor_parallel"],
        distributed_executor_backend=settings["executor"] or None,
        disable_log_stats=True,
        seed=0,
    )
    return engine, {"version": vllm.__version__, "device": current_platform.device_type}


def sample(engine: Any, request: dict[str, Any]) -> list[list[list[Any]]]:
    """For each prefix its distinct samples, each `[tokens, log-probabilities of the tokens,
    log-probabilities of <backtrack> in the tokens' places, count]`."""
    from vllm import SamplingParams, TokensPrompt

    wanted = zip(request["prefixes"], request["counts"], request["seeds"], strict=True)
    prompts, parameters = [], []
    for prefix, count, seed in wanted:
        prompts.append(TokensPrompt(prompt_token_ids=prefix))
        parameters.append(
            SamplingParams(
                n=count,
                temperature=request["temperature"],
                seed=seed,
                max_tokens=request["max_new_tokens"],
                stop_token_ids=request["stop_ids"],
                ignore_eos=True,
                logprob_token_ids=[request["backtrack_id"]],
                flat_logprobs=True,
                detokenize=False,
            )
        )
    results = engine.generate(prompts, parameters, use_tqdm=False)
    return [merged(result.outputs) for result in results]


def merged(outputs: list[Any]) -> list[list[Any]]:
    """Equal samples as one, with their count."""
    found: dict[tuple[int, ...], list[Any]] = {}
    for output in outputs:
        tokens = tuple(map(int, output.token_ids))
        if tokens in found:
            found[tokens][3] += 1
            continue
        flat = output.logprobs  # of each position first the sampled token, then <backtrack>
        starts = flat.start_indices
        own = [flat.logprobs[start] for start in starts]
        backtrack = [flat.logprobs[start + 1] for start in starts]
        found[tokens] = [list(tokens), own, backtrack, 1]
    return list(found.values())


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what vLLM and its libraries print is no answer
    engine = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if engine is None:
                engine, reply = start(request)
            else:
                reply = {"samples": sample(engine, request)}
        except Exception as error:  # whatever it is, the other side reports it
            text = (str(error).strip() or "no message").splitlines()[0]
            reply = {"error": f"{type(error).__name__}: {text}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    with suppress(Exception):
        engine.llm_engine.engine_core.shutdown()  # ends the processes of a tensor-parallel engine
    sys.stderr.flush()
    os._exit(0)  # Python's own way out takes ten seconds more, with vLLM loaded


if __name__ == "__main__":
    main()
