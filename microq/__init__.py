"""microq: run, feed, watch and break a system around a replicated message queue.

The journey of a message::

    client --POST--> facade --put--> queue (3 members, backups) --receive--> messages-service --> its memory
                       |                                                        |
                       +--POST--> logging-service (one of 3) --> `log` map      +--> `stored` map
    reader --GET---> facade --GET--> one random logging-service + one random messages-service, both combined

One id travels the whole way. The client makes it where the client counts (every measured run), else the
facade does. The packages follow the journey, and imports point down only: words (`message`, `config`, `fleet`,
`errors`, `log`) < ports (`hz`, `queues`, `store`, `members`, `client`) < `services` and `engines` + `system`
< `chaos` < `views` < `cli`.
"""

__version__ = "0.1.0"
