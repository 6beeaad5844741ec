"""What single steps cost: codecs, appends, reads, a request from bytes to bytes. In microseconds and in instructions.

    python -m benchmarks.micro [NAME ...]                        microseconds: best and median of rounds in turns
    python -m benchmarks.micro [NAME ...] --instructions         instructions, counted by valgrind (medians)
        --json FILE         keeps the figures in a file, beside those of other steps and of the other kind
        --compare [FILE]    ratios to kept figures, figures.json if no file is named; exit code 1 where a step takes
                            over 2 % more instructions
        --jobs N            counts in so many processes at a time
    python -m benchmarks.micro.compare BEFORE.json AFTER.json    two such files, step by step

`figures.json` says of which commit, by which command and on which machine it was made. How to compare two commits
stands in docs/performance.md.
"""
