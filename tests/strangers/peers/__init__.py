"""Our drivers judged by programs that nobody here wrote, over real sockets on loopback.

Real servers are met through presets, and peers in other languages that frame by themselves in both directions: our client
and their server, their client and our server. Each program is started by a test, in a directory of its own, and ended
by its process id. Where one is missing its tests are skipped, and say which Debian package has it; `.ci/servers` installs
all of them.
"""
