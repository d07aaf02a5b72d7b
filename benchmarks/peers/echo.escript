#!/usr/bin/env escript
%%! +S 1
%% gen_tcp's own {packet, 4}: the length is read, and written, by the runtime system, in C.
-mode(compile).

main(_) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {packet, 4}, {active, false}, {nodelay, true}, {backlog, 1024}]),
    {ok, Port} = inet:port(Listener),
    io:format("ready ~b~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Echo = spawn(fun() -> receive go -> inet:setopts(Socket, [{active, true}]), echo(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Echo),
    Echo ! go,
    accept(Listener).

echo(Socket) ->
    receive
        {tcp, Socket, Payload} -> _ = gen_tcp:send(Socket, Payload), echo(Socket);
        {tcp_closed, Socket} -> ok
    end.
