"""One style for all figures, and tables as Markdown.

Takes tidy rows; gives panels, legends, colours of one meaning each, and files that repeat byte for
byte. What one study alone draws is in its own file. Knows nothing of how a row was measured.
"""
