"""What single steps cost: codecs, appends, reads, a request from bytes to bytes. In microseconds and in instructions.

    python -m benchmarks.micro [NAME ...] [--json FILE]              microseconds: best and median of rounds in turns
    python -m benchmarks.micro [NAME ...] --instructions             instructions, counted by valgrind, which is exact
    python -m benchmarks.micro.compare BEFORE.json AFTER.json        two files of the same kind, step by step

How to compare two commits with it stands in docs/performance.md.
"""
