"""Sampling with vLLM: a second `Sampler`, for large models on many GPUs.

Takes a checkpoint's folder; gives what `lib.search.sampler.CacheSampler` gives, in the same
distribution (other draws: the random streams are vLLM's own). Knows nothing of text, trees or
tasks. vLLM pins other versions of our packages, so it runs in processes of its own environment
(`make env-vllm`, lib/search/vllm_worker.py) that are started here, spoken to through pipes, and
ended with this process.

The log-probabilities are those of the model itself, whatever the temperature, and that of
`<backtrack>` is asked for in each token's place: right after a step it is the one in the place of
the token that follows, from the same forward pass.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from lib.base.errors import UserError, first_line
from lib.base.files import ROOT
from lib.base.processes import end_group
from lib.profiles.settings import VllmSettings
from lib.search.expansion import GREEDY_BELOW
from lib.search.rollout import DECIMALS, Sample
from lib.search.sampler import Prefixes, checked, entropies

ENVIRONMENT = ROOT / ".venv-vllm"
LOWEST_TEMPERATURE = 0.01  # vLLM takes it for anything lower that is not 0
PATIENCE_S = 10


def python() -> Path:
    """The Python that has vLLM: this one, or that of `make env-vllm`; `UserError` if neither."""
    if importlib.util.find_spec("vllm"):
        return Path(sys.executable)
    found = ENVIRONMENT / "bin" / "python"
    # The stamp is written last: without it some package is missing.
    if not (ENVIRONMENT / ".pins-installed").exists() or not found.exists():
        raise UserError('sampler = "vllm": vLLM is not installed here; run `make env-vllm` first')
    return found


class VllmSampler:
    """Samples of one checkpoint; see `lib.search.sampler.Sampler`.

    Every sample has a random stream of its own, so what is drawn for a prefix does not depend on
    what else is sampled with it, except where vLLM's floating-point results differ in their last
    digits: these depend on the batch, and on which prefixes are in its cache already.
    """

    def __init__(
        self,
        path: str | Path,
        eos_id: int,
        backtrack_id: int,
        step_end_ids: Collection[int],
        max_new_tokens: int,
        settings: VllmSettings | None = None,
    ):
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens {max_new_tokens}: must be 1 or more")
        settings = settings or VllmSettings()
        self.path, self.settings = Path(path), settings
        self.eos_id, self.backtrack_id = eos_id, backtrack_id
        self.step_end_ids, self.max_new_tokens = frozenset(step_end_ids), max_new_tokens
        self.context = min(settings.context, _max_positions(path))
        self._workers = [_Worker(python(), settings, index) for index in range(settings.replicas)]
        self.close = weakref.finalize(self, _close, self._workers)
        options = asdict(settings) | {"model": str(path), "context": self.context}
        self.engine = self._ask([options] * settings.replicas)[0]

    def sample(
        self, prefixes: Prefixes, counts: Sequence[int], temperature: float, seed: int
    ) -> list[list[Sample]]:
        """See `Sampler`. A temperature of 0 is greedy decoding. Samples come most frequent first.

        `max_new_tokens` counts from the end of the prefix.
        """
        prefixes = checked(prefixes, counts, temperature)
        greedy = temperature < GREEDY_BELOW
        if not greedy and temperature < LOWEST_TEMPERATURE:
            raise UserError(f"temperature {temperature}: must be 0 or from {LOWEST_TEMPERATURE} on")
        for prefix in prefixes:
            if len(prefix) + self.max_new_tokens > self.context:
                raise UserError(
                    f"a prefix of {len(prefix)} tokens and {self.max_new_tokens} new ones:"
                    f" the model and vllm.context allow {self.context} together"
                )
        seeds = [
            int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 2)
            for entropy in entropies(prefixes, seed)
        ]
        wanted = [i for i, count in enumerate(counts) if count > 0]
        # One replica has every n-th prefix; what is drawn for it depends on its seed alone.
        shares = [wanted[k :: len(self._workers)] for k in range(len(self._workers))]
        requests = [
            {
                "prefixes": [prefixes[i] for i in share],
                "counts": [1 if greedy else int(counts[i]) for i in share],
                "seeds": [seeds[i] for i in share],
                "temperature": 0.0 if greedy else float(temperature),
                "max_new_tokens": self.max_new_tokens,
                "stop_ids": [self.eos_id, self.backtrack_id],
                "backtrack_id": self.backtrack_id,
            }
            for share in shares
        ]
        samples: list[list[Sample]] = [[] for _ in prefixes]
        for share, reply in zip(shares, self._ask(requests), strict=True):
            for i, found in zip(share, reply["samples"], strict=True):
                made = [self._sample(*sample, counts[i] if greedy else None) for sample in found]
                samples[i] = sorted(made, key=lambda sample: (-sample.count, sample.tokens))
        return samples

    def _sample(self, tokens, logprobs, backtrack, drawn: int, count: int | None) -> Sample:
        ends = tuple(i for i, token in enumerate(tokens) if token in self.step_end_ids)
        # After the last token of all no distribution was computed.
        after = [*np.exp(backtrack).round(DECIMALS).tolist(), math.nan]
        stops = {self.backtrack_id: "backtrack", self.eos_id: "goal"}
        return Sample(
            tokens=tuple(tokens),
            logprobs=tuple(np.round(logprobs, DECIMALS).tolist()),
            step_ends=ends,
            p_backtrack=tuple(after[i + 1] for i in ends),
            stop=stops.get(tokens[-1], "limit"),
            count=count or drawn,
            p_backtrack_start=after[0],
        )

    def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each worker's answer to its request; any failure ends them all."""
        if not self.close.alive:
            raise UserError(f"{self.path}: this vLLM sampler is closed")
        try:
            for worker, request in zip(self._workers, requests, strict=True):
                worker.send(request)
            return [worker.receive() for worker in self._workers]
        except BaseException:  # after an interrupt, too, answers would no longer match requests
            self.close()
            raise


class _Worker:
    """One process of vLLM's environment. Its log is kept only where it failed."""

    def __init__(self, executable: Path, settings: VllmSettings, index: int):
        log, name = tempfile.mkstemp(prefix="vllm-", suffix=".log")
        self.log = Path(name)
        self.failed = False
        self.process = subprocess.Popen(
            [executable, "-m", "lib.search.vllm_worker"],
            cwd=ROOT,
            env=environment(settings, index),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        os.close(log)

    def send(self, request: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # `receive` says why
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            code = self.process.wait()
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            reply = {"error": f"its process ended with {how}: {last}"}
        else:
            reply = json.loads(line)
        if "error" in reply:
            self.failed = True
            raise UserError(f"vLLM failed: {reply['error']} (log: {self.log})")
        return reply

    def end(self) -> None:
        """Wait until it has ended, which frees what its own children share; or else make it."""
        end_group(self.process, PATIENCE_S, signals=(None, signal.SIGTERM))
        self.process.stdout.close()
        if not self.failed:
            self.log.unlink(missing_ok=True)


def environment(settings: VllmSettings, index: int) -> dict[str, str]:
    """The environment variables of a replica's process."""
    added = {
        "PYTHONPATH": str(ROOT),
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "VLLM_NO_USAGE_STATS": "1",  # nothing is sent anywhere
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # a checkpoint is a folder
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the worker is a process already
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other work on these cores keeps its share
    }
    if settings.replicas > 1 and not settings.executor and torch.cuda.is_available():
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = shown.split(",") if shown else [str(i) for i in range(torch.cuda.device_count())]
        wanted = settings.replicas * settings.tensor_parallel
        if len(gpus) < wanted:
            raise UserError(f"[vllm] asks for {wanted} GPUs; this machine has {len(gpus)}")
        first = index * settings.tensor_parallel
        added["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + settings.tensor_parallel])
    return {**os.environ, **added}


def _close(workers: list[_Worker]) -> None:
    for worker in workers:
        with suppress(BrokenPipeError):
            worker.process.stdin.close()
    for worker in workers:
        worker.end()


def _max_positions(path: str | Path) -> int:
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: no model can be loaded ({first_line(error)})") from error
    return int(getattr(config, "max_position_embeddings", None) or sys.maxsize)


_last: dict[tuple, VllmSampler] = {}


def close_shared() -> None:
    """End the one that `shared_sampler` keeps: it holds what a GPU has, which training needs."""
    for old in _last.values():
        old.close()
    _last.clear()


def shared_sampler(path: str | Path, *arguments: Any) -> VllmSampler:
    """The `VllmSampler` of these arguments, kept running until another one is asked for: starting
    vLLM takes longer than many a search."""
    key = (str(path), *arguments)
    if key not in _last or not _last[key].close.alive:
        close_shared()
        _last[key] = VllmSampler(path, *arguments)
    return _last[key]
