"""For how long one client's request keeps everybody else waiting, beside Apache Kafka 4.4.0.

    python -m benchmarks.stalls [NAME...] [--list] [--no-kafka] [--no-odradek] [--count 10000] [--profile] [--write]

A bystander, a process of its own, asks ApiVersions every 2 ms on a connection of its own. While it does, a case sends
one request that is as large as a client may send it, or that names one thing many times, or that meets ten thousand of
something. The longest that the bystander waited is the stall; with it go the time of the request itself, the size of
the response, and by how much the broker's memory grew. One broker after the other runs all cases, so that neither
takes the cores from the other. What a case needs (topics, groups, transactional ids) is made once for a run.

- `cases`: what a case is, and the table of all.
- `prepared`: the broker of a run, and what is made in it for cases to ask about.
- `topics`, `groups`, `patterns`, `transactions`, `waiting`, `repeated`, `last`: the cases.
- `bystander`: who asks beside.
- `profile`: where the time goes (needs py-spy).
- `__main__`: the run, and the table.

No test depends on any of this.
"""
