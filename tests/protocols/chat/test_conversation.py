"""A conversation over connections that break, on asyncio's loop and on uvloop: nothing is missed, doubled or left behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from framing.drivers import selector
from protocols.chat import client as person
from protocols.chat import conversation
from protocols.chat.client import Client
from protocols.chat.conversation import MOST_OUTPUTS, Conversation
from protocols.chat.host import Host
from protocols.chat.hub import Hub, Options
from protocols.chat.log import MemoryLog
from protocols.chat.messages import Event, Members
from protocols.chat.wires import DEFAULT_WIRE
from tests.protocols.chat.puppets import joined, puppet, welcome
from tests.protocols.chat.serving import Serving

try:
    import uvloop
except ImportError:  # not on Windows, nor on PyPy
    uvloop = None

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop and uvloop.new_event_loop}


@pytest.fixture(params=[name for name, loop in LOOPS.items() if loop])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on the loop in question, and finds nothing left behind."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                found = await main
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
            return found

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(bounded())

    return run


@contextlib.contextmanager
def hosting(**options: Any) -> Iterator[str]:
    """A hub in this process, and where it is."""
    with (
        Host(Hub(MemoryLog(), Options(**options))) as host,
        selector.Server(("127.0.0.1", 0), DEFAULT_WIRE, host.service(DEFAULT_WIRE)) as server,
    ):
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield str(server.address)
        finally:
            server.stop()
            thread.join()


async def until(outputs: AsyncIterator[person.Output], fact: Callable[[Any], Any]) -> Any:
    async for output in outputs:
        if fact(output):
            return output
    raise AssertionError("it ended before")


def said(text: str) -> Callable[[Any], bool]:
    return lambda output: isinstance(output, person.Told) and getattr(output.message, "text", "") == text


def in_state(state: str) -> Callable[[Any], bool]:
    return lambda output: isinstance(output, person.Changed) and output.state == state


# ------------------------------------------------------------- connections that break


def test_it_comes_back_and_goes_on_where_it_was_without_a_gap_or_a_double(run, tmp_path: Path) -> None:
    async def talk(serving: Serving) -> tuple[list[Event], list[Any]]:
        seen: list[Event] = []
        posted: list[Any] = []
        lost = 0
        async with (
            Conversation(serving.address, Client("ann", ("lobby",))) as ann,
            Conversation(serving.address, Client("ben", ("lobby",))) as ben,
        ):
            numbers = itertools.count()
            ann.say("begin", room="lobby")
            async for output in ben.outputs():
                if isinstance(output, person.Told) and isinstance(output.message, Event):
                    seen.append(output.message)
                    if output.message.kind == "say":
                        number = next(numbers)
                        if number == 14:
                            break
                        (ann if number % 3 else ben).say(f"post {number}", room="lobby")
                        if number % 5 == 2:  # with the post under way
                            await asyncio.to_thread(serving.kill)
                            await asyncio.to_thread(serving.start)
                elif isinstance(output, person.Changed):
                    lost += output.state == "waiting"
            assert lost >= 3
            await ann.end()
            posted += [
                (output.text, output.state) async for output in ann.outputs() if isinstance(output, person.Posted)
            ]
        return seen, posted

    with Serving(tmp_path / "chat.db") as serving:
        seen, posted = run(talk(serving))
    first = seen[0].seq
    assert [event.seq for event in seen] == list(range(first, first + len(seen)))
    texts = [event.text for event in seen if event.kind == "say"]
    assert texts == ["begin", *(f"post {number}" for number in range(14))]
    assert len([each for each in posted if each[1] == "stored"]) == len(
        [each for each in posted if each[1] == "pending"]
    )
    assert not [each for each in posted if each[1] == "failed"]


def test_a_post_whose_answer_is_lost_is_sent_again_by_the_same_id(run) -> None:
    posts: list[dict[str, Any]] = []

    def answer(message: dict[str, Any]) -> list[Any] | None:
        if message["type"] == "hello":
            return [welcome(resumed=bool(posts))]
        if message["type"] == "post":
            posts.append(message)
            return None if len(posts) < 3 else [{"type": "ok", "id": message["id"], "room": "lobby", "seq": 1}]
        return joined(message["id"]) if message["type"] == "join" else []

    async def talk(address: str) -> None:
        async with Conversation(address, Client("ann", ("lobby",), chance=lambda: 0.0)) as chat:
            chat.say("once", room="lobby")
            outputs = chat.outputs()
            await until(outputs, lambda output: isinstance(output, person.Posted) and output.state == "stored")

    with puppet(answer) as (service, address):
        run(talk(address))
    assert len(posts) == 3
    assert posts[0] == posts[1] == posts[2]
    assert service.connections == 3
    tokens = [message["resume"]["token"] for message in service.heard if message["type"] == "hello"]
    assert tokens[1:] == ["t" * 20] * 2


def test_it_waits_longer_each_time_where_nobody_listens(run) -> None:
    async def wait() -> list[float]:
        with hosting() as address:
            pass
        waits: list[float] = []
        async with Conversation(address, Client("ann", chance=lambda: 0.0)) as chat:
            async for output in chat.outputs():
                if in_state("waiting")(output):
                    assert output.retry_at is not None
                    waits.append(output.retry_at)
                    if len(waits) == 3:
                        break
        return [later - sooner for sooner, later in itertools.pairwise(waits)]

    first, second = run(wait())
    assert first >= 0.5
    assert second >= 1.0


def test_a_reader_who_is_slow_bounds_what_is_read_for_it(run) -> None:
    async def talk(address: str) -> int:
        async with Conversation(address, Client("ann", ("lobby",))) as chat:
            outputs = chat.outputs()
            await until(outputs, in_state("online"))
            held = 0
            for _ in range(100):
                await asyncio.sleep(0.01)
                held = max(held, len(chat._outputs))
            numbers = [0]
            async for output in outputs:
                if isinstance(output, person.Told) and isinstance(output.message, Event):
                    numbers.append(output.message.seq)
                    if numbers[-1] == 20_000:
                        break
            assert numbers == list(range(20_001))
            return held

    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome()]
        event = {"type": "event", "room": "lobby", "time": 0, "sender": "x", "kind": "say", "text": "y" * 50}
        events = [{**event, "seq": number} for number in range(1, 20_001)]
        return [*joined(message["id"]), *events] if message["type"] == "join" else []

    with puppet(answer) as (_, address):
        held = run(talk(address))
    assert MOST_OUTPUTS <= held <= MOST_OUTPUTS + 2000


def test_of_what_nobody_asked_for_the_last_is_kept(run) -> None:
    async def talk(address: str) -> list[int]:
        async with Conversation(address, Client("ann", ("lobby",))) as chat:
            while (chat.client.cursor("lobby") or 0) < 3000:  # noqa: ASYNC110 # whoever listens is another case
                await asyncio.sleep(0.01)
            await chat.end()
            return [event.seq async for event in chat.events()]

    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome()]
        event = {"type": "event", "room": "lobby", "time": 0, "sender": "x", "kind": "say"}
        events = [{**event, "seq": number} for number in range(1, 3001)]
        return [*joined(message["id"]), *events] if message["type"] == "join" else []

    with puppet(answer) as (_, address):
        seen = run(talk(address))
    assert seen == list(range(seen[0], 3001))
    assert MOST_OUTPUTS - 10 <= len(seen) <= MOST_OUTPUTS


def test_a_bot_that_hears_no_history_hears_a_log_that_was_begun_anew(run) -> None:
    connections = itertools.count()
    event = {"type": "event", "room": "lobby", "time": 0, "sender": "x", "kind": "say"}

    def answer(message: dict[str, Any]) -> list[Any] | None:
        if message["type"] == "hello":
            return [welcome(session=f"s{next(connections)}")]
        if message["type"] != "join":
            return None
        if message["id"][0] == "s0":
            return [
                {"type": "reset", "room": "lobby", "seq": 7},
                {"type": "ok", "id": message["id"], "room": "lobby", "seq": 7},
                {"type": "members", "room": "lobby", "names": ["ann"], "at": 8},
                {**event, "seq": 8, "text": "history"},
                {**event, "seq": 9, "text": "heard"},
                {"type": "close", "code": "stopping", "text": "again", "reconnect": 0.01},
            ]
        return [*joined(message["id"]), {**event, "seq": 1, "text": "of the new log"}]

    async def talk(address: str) -> list[str]:
        async with Conversation(address, Client("ann", ("lobby",), chance=lambda: 0.0)) as chat:
            heard: list[str] = []
            async with asyncio.timeout(10):
                async for told in chat.events(history=False):
                    heard.append(told.text)
                    if len(heard) == 2:
                        break
            return heard

    with puppet(answer) as (_, address):
        assert run(talk(address)) == ["heard", "of the new log"]


def test_a_server_that_asks_and_asks_but_takes_no_answer_is_not_read_without_end(run) -> None:
    async def talk() -> int:
        stalled = asyncio.Event()

        async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(DEFAULT_WIRE.encode(welcome()))
            pings = DEFAULT_WIRE.encode_many([{"type": "ping", "n": number} for number in range(5000)])
            with contextlib.suppress(ConnectionError, TimeoutError):
                for _ in range(2000):
                    writer.write(pings)
                    async with asyncio.timeout(1):
                        await writer.drain()
            stalled.set()
            writer.transport.abort()

        server = await asyncio.start_server(ask, "127.0.0.1", 0)
        async with Conversation(server.sockets[0].getsockname()[:2], Client("ann")) as chat:
            await stalled.wait()
            waiting = chat._sending.qsize()
            chat.client.handle(person.Lost("enough"), 0)
            server.close()
        return waiting

    assert run(talk()) <= 2 * MOST_OUTPUTS + 2  # the inputs that wait become what is to be sent


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", ("127.0.0.1", 1)])
def test_a_password_is_not_carried_where_anybody_can_read_it(address: Any) -> None:
    import ssl

    with pytest.raises(ValueError, match="TLS or a unix socket only"):
        Conversation(address, Client("ann", password="hunter2"))
    Conversation(address, Client("ann"))
    Conversation(address, Client("ann", password="hunter2"), ssl_context=ssl.create_default_context())
    for private in ("tls://127.0.0.1:1", "unix:/nowhere"):
        Conversation(private, Client("ann", password="hunter2"))


class Scripted:
    """A connection, in the place of one that is made: it says what ``say`` does, and takes ``most`` messages."""

    def __init__(self, say: Callable[[], AsyncIterator[dict[str, Any]]], most: int) -> None:
        self._say = say
        self._left = most

    def __call__(self, *given: Any, **options: Any) -> Scripted:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._say()

    async def send(self, message: Any) -> None:
        if self._left == 0:
            await asyncio.Event().wait()
        self._left -= 1


class Peaked(asyncio.Queue[Any]):
    """A queue that knows how long it has been."""

    peak = 0

    def put_nowait(self, item: Any) -> None:
        super().put_nowait(item)
        self.peak = max(self.peak, self.qsize())


def test_what_comes_in_one_go_is_not_taken_in_faster_than_it_is_looked_at(run, monkeypatch) -> None:
    async def say() -> AsyncIterator[dict[str, Any]]:
        yield welcome()
        for number in range(10 * MOST_OUTPUTS):
            yield {"type": "pong", "n": number}
        await asyncio.Event().wait()

    async def talk() -> int:
        chat = Conversation("tcp://127.0.0.1:1", Client("ann"))
        chat._inputs = inputs = Peaked()
        async with chat:
            await until(chat.outputs(), in_state("online"))
            await asyncio.sleep(0.1)
            peak = inputs.peak
            await chat.end(0.1, at_once=True)  # it takes no good-bye
            return peak

    monkeypatch.setattr(conversation.aio, "connect", Scripted(say, 1))
    assert run(talk()) <= MOST_OUTPUTS + 3


def test_a_server_is_not_read_from_while_it_takes_no_answers(run, monkeypatch) -> None:
    queues: list[Peaked] = []

    def queue() -> Peaked:
        queues.append(Peaked())
        return queues[-1]

    async def say() -> AsyncIterator[dict[str, Any]]:
        yield welcome()
        for number in range(10 * MOST_OUTPUTS):
            yield {"type": "ping", "n": number}
            if number % 100 == 0:
                await asyncio.sleep(0.001)
        await asyncio.Event().wait()

    async def talk() -> None:
        async with Conversation("tcp://127.0.0.1:1", Client("ann")) as chat:
            monkeypatch.setattr(asyncio, "Queue", queue)
            await until(chat.outputs(), in_state("online"))
            await asyncio.sleep(1)
            await chat.end(0.1, at_once=True)  # it takes no good-bye

    monkeypatch.setattr(conversation.aio, "connect", Scripted(say, 1))
    run(talk())
    (sending,) = queues
    # What had come in when it was full becomes what is to be sent.
    assert MOST_OUTPUTS < sending.peak <= 2 * MOST_OUTPUTS + 3


def test_a_connection_that_was_given_up_is_read_to_its_end_though_nobody_takes_what_was_told(run, monkeypatch) -> None:
    said: list[int] = []
    all_said = asyncio.Event()

    async def say() -> AsyncIterator[dict[str, Any]]:
        event = {"type": "event", "room": "r", "time": 0, "sender": "x", "kind": "say"}
        yield welcome()
        yield {"type": "reset", "room": "r", "seq": 0}
        for number in range(1, 5 * MOST_OUTPUTS):
            said.append(number)
            yield {**event, "seq": number}
        all_said.set()
        await asyncio.Event().wait()

    async def talk() -> None:
        async with Conversation("tcp://127.0.0.1:1", Client("ann", chance=lambda: 1.0)) as chat:
            outputs = chat.outputs()
            await anext(outputs)
            while not chat._is_full or chat._inputs.qsize():  # noqa: ASYNC110 # nobody tells that it waits
                await asyncio.sleep(0.01)
            assert len(said) < 3 * MOST_OUTPUTS
            chat.put(person.Received({"type": "event"}))  # what is none: it goes away
            async with asyncio.timeout(10):
                await all_said.wait()
            assert len(said) == 5 * MOST_OUTPUTS - 1
            monkeypatch.setattr(conversation, "LEAVE_TIMEOUT", 0.1)
            await chat.end(0.1, at_once=True)
            assert len([output async for output in outputs]) < 3 * MOST_OUTPUTS

    # It takes the hello, and neither what it is asked for nor that it is over.
    monkeypatch.setattr(conversation.aio, "connect", Scripted(say, 0))
    run(talk())


def test_a_bot_hears_what_comes_behind_a_later_list_of_who_is_there(run) -> None:
    event = {"type": "event", "room": "lobby", "time": 0, "sender": "x", "kind": "say"}

    def answer(message: dict[str, Any]) -> list[Any]:
        if message["type"] == "hello":
            return [welcome()]
        if message["type"] != "join":
            return []
        later = {"type": "members", "room": "lobby", "names": ["ann"], "at": 3}  # of one who is being paged
        return [*joined(message["id"]), later, *({**event, "seq": number} for number in range(1, 5))]

    async def talk(address: str) -> list[int]:
        async with Conversation(address, Client("ann", ("lobby",))) as chat:
            heard: list[int] = []
            async for told in chat.events(history=False):
                heard.append(told.seq)
                if told.seq == 4:
                    break
            return heard

    with puppet(answer) as (_, address):
        assert run(talk(address)) == [1, 2, 3, 4]


# ----------------------------------------------------------------------------- ends


def test_of_what_is_said_behind_the_end_it_is_told_that_nobody_hears_it(run) -> None:
    async def talk() -> list[person.Posted]:
        async with Conversation("tcp://127.0.0.1:1", Client("ann")) as chat:
            chat.put(person.Leaving(at_once=True))
            chat.say("too late", room="lobby")
            return [output async for output in chat.outputs() if isinstance(output, person.Posted)]

    assert run(talk()) == [person.Posted(1, "failed", "too late", "the conversation has ended")]


def test_leaving_waits_for_what_was_said(run) -> None:
    async def talk(address: str) -> list[str]:
        async with Conversation(address, Client("ben", ("lobby",))) as ben:
            outputs = ben.outputs()
            await until(outputs, in_state("online"))
            async with Conversation(address, Client("ann", ("lobby",))) as ann:
                for number in range(20):
                    ann.say(f"post {number}", room="lobby")
            texts = []
            async for output in outputs:
                if isinstance(output, person.Told) and isinstance(output.message, Event):
                    texts.append(output.message.text)
                    if output.message.kind == "left":
                        return texts
        return texts

    with hosting(rate=1000.0) as address:
        texts = run(talk(address))
    assert [text for text in texts if text.startswith("post")] == [f"post {number}" for number in range(20)]
    assert texts[-1] == "bye"


def test_cancelling_it_ends_it_at_once_wherever_it_is(run) -> None:
    async def talk(address: str) -> None:
        async def one(steps: int) -> None:
            async with Conversation(address, Client(None, ("lobby",))) as chat:
                async for number, _ in _counted(chat.outputs()):
                    if number == steps:
                        await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        for steps in range(6):
            task = asyncio.create_task(one(steps))
            await asyncio.sleep(0.02 * steps)
            task.cancel()
            began = loop.time()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert loop.time() - began < 4

    async def _counted(outputs: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
        number = 0
        async for output in outputs:
            yield number, output
            number += 1

    with hosting() as address:
        run(talk(address))


def test_an_error_in_the_block_is_what_comes_out_of_it(run) -> None:
    async def talk(address: str) -> None:
        async with Conversation(address, Client("ann", ("lobby",))) as chat:
            await until(chat.outputs(), in_state("online"))
            raise LookupError("mine")

    with hosting() as address, pytest.raises(LookupError, match="mine"):
        run(talk(address))


def test_an_error_of_the_client_is_raised_and_not_kept(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Client, given: Any, now: float) -> Any:
        raise ZeroDivisionError

    async def talk() -> None:
        async with Conversation("tcp://127.0.0.1:1", Client("ann")) as chat:
            async for _ in chat.outputs():
                pass

    monkeypatch.setattr(Client, "handle", broken)
    with pytest.raises(ZeroDivisionError):
        run(talk())


def test_whoever_wants_more_rooms_than_may_be_entered_at_once_gets_into_all_of_them(run) -> None:
    rooms = tuple(f"room{number}" for number in range(70))

    async def enter(address: str) -> list[Any]:
        async with Conversation(address, Client("ann", rooms)) as chat:
            chat.join("latest")
            chat.say("here", room="latest")
            told, entered = [], 0
            async for output in chat.outputs():
                told.append(output)
                entered += isinstance(output, person.Told) and isinstance(output.message, Members)
                if entered == len(rooms) + 1 and isinstance(output, person.Posted):
                    break
            assert set(chat.client.rooms) == {*rooms, "latest", "server"}
        return told

    # More would be refused in a row, were all of them asked for at once, than any connection outlives.
    with hosting(max_rooms_each=100, move_burst=4, move_rate=50.0, request_burst=10, request_rate=200.0) as address:
        told = run(enter(address))
    assert not [output for output in told if isinstance(output, (person.Trouble, person.Slowed))]
    assert [output.state for output in told if isinstance(output, person.Changed)] == ["connecting", "online"]
    assert [output.state for output in told if isinstance(output, person.Posted)] == ["pending", "stored"]


def test_a_server_that_does_not_let_it_in_ends_it(run) -> None:
    async def talk(address: str) -> Any:
        async with Conversation(address, Client("ann", ("lobby",))) as first:
            await until(first.outputs(), in_state("online"))
            async with Conversation(address, Client("Ann")) as second:
                return [output async for output in second.outputs()]

    with hosting() as address:
        outputs = run(talk(address))
    assert isinstance(outputs[-2], person.Trouble)
    assert (outputs[-1].state, outputs[-1].end) == ("ended", "closed")


def test_whoever_leaves_the_block_by_an_error_says_good_bye(run) -> None:
    async def talk(address: str) -> str:
        async with Conversation(address, Client("ben", ("lobby",))) as ben:
            told = ben.events()
            with contextlib.suppress(LookupError):
                async with Conversation(address, Client("ann", ("lobby",))) as ann:
                    await until(ann.outputs(), in_state("online"))
                    await anext(event async for event in told if event.sender == "ann")
                    raise LookupError
            left = await anext(event async for event in told if event.kind == "left")
            return f"{left.sender} {left.text}"

    with hosting(grace=1000.0) as address:
        assert run(talk(address)) == "ann bye"


def test_a_bot_that_is_not_let_in_does_not_end_without_a_word(run, caplog: pytest.LogCaptureFixture) -> None:
    async def talk(address: str) -> list[Event]:
        async with Conversation(address, Client("ann", ("lobby",))) as first:
            await until(first.outputs(), in_state("online"))
            async with Conversation(address, Client("Ann", ("lobby",))) as second:
                return [event async for event in second.events()]

    with hosting() as address:
        assert run(talk(address)) == []
    assert "has ended: this name is taken" in caplog.text
