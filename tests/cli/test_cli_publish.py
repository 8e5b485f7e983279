"""`triocast publish` as a process, against a small HTTP server."""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler

import pytest

from triocast.cli.publisher import PAUSES, TEXT, AnswerLost, Publisher
from triocast.client.target import parse_url

PATIENCE = 30


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.clients.add(self.client_address)
        status, answer, headers = self.server.answer(self.path, body)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.server.hang_up

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    hang_up = False

    def __init__(self, address):
        super().__init__(address, Handler)
        self.requests = []
        self.clients = set()
        self.answers = []

    def answer(self, path, body):
        if self.answers:
            return self.answers.pop(0)
        receipt = {"group": path.rpartition("/")[2], "epoch": "e", "offset": len(self.requests)}
        return 200, json.dumps(receipt | {"subscribers": 3, "behind": 0}).encode(), {}

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)


def serving(server):
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server():
    yield from serving(Server(("127.0.0.1", 0)))


@pytest.fixture
def unix_server(tmp_path):
    yield from serving(UnixServer(str(tmp_path / "t.sock")))


def command(*arguments):
    return [sys.executable, "-m", "triocast", "publish", *arguments]


def environment(server, **variables):
    host, port = server.server_address
    return os.environ | {"TRIOCAST_URL": f"http://{host}:{port}"} | variables


def publish(server, *arguments, given=b"", **variables):
    done = subprocess.run(
        command(*arguments),
        input=given,
        capture_output=True,
        env=environment(server, **variables),
        timeout=PATIENCE,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refusal(status, code, message, **headers):
    return status, json.dumps({"error": {"code": code, "message": message}}).encode(), headers


def test_a_message_is_posted_as_text_and_its_receipt_printed(server):
    code, out, err = publish(server, "user:1#", "grüße", TRIOCAST_API_KEY="s3cret")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"group": "user%3A1%23", "epoch": "e", "offset": 1, "subscribers": 3, "behind": 0}
    ((path, headers, body),) = server.requests
    assert path == "/publish/user%3A1%23"
    assert body == "grüße".encode()
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Host"] == "{}:{}".format(*server.server_address)


def test_receipts_can_be_for_people_or_not_at_all(server):
    assert publish(server, "chat", "x", "--output", "text")[1] == "sent to chat at offset 1: 3 subscribers, 0 behind\n"
    assert publish(server, "chat", "x", "--quiet")[:2] == (0, "")


def test_json_and_binary_have_content_types_of_their_own(server, tmp_path):
    (tmp_path / "picture").write_bytes(b"\x00\n\xff")
    publish(server, "chat", '{"a": 1}', "--json")
    publish(server, "chat", "--binary", str(tmp_path / "picture"))
    publish(server, "chat", "--binary", "-", given=b"\n\x00\n")
    assert [headers["Content-Type"] for _, headers, _ in server.requests] == [
        "application/json",
        "application/octet-stream",
        "application/octet-stream",
    ]
    assert server.bodies == [b'{"a": 1}', b"\x00\n\xff", b"\n\x00\n"]


def test_lines_are_messages_sent_over_one_connection(server):
    code, out, _ = publish(server, "chat", given=b"one\n\n\xfftwo\r\nlast")
    assert code == 0
    assert server.bodies == [b"one", b"", b"\xfftwo\r", b"last"]
    assert len(server.clients) == 1
    assert [json.loads(line)["offset"] for line in out.splitlines()] == [1, 2, 3, 4]


def test_a_line_is_published_before_the_next_is_read(server):
    with subprocess.Popen(
        command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(server)
    ) as process:
        for offset in (1, 2):
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["offset"] == offset
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_the_first_line_that_fails_ends_it_and_is_named(server):
    server.answers = [
        (200, b'{"group":"chat","epoch":"e","offset":1,"subscribers":1,"behind":1}', {}),
        refusal(413, "message_too_large", "the message is over 1048576 bytes"),
    ]
    code, out, err = publish(server, "chat", "--output", "text", given=b"one\ntwo\nthree\n")
    assert code == 1
    assert out == "sent to chat at offset 1: 1 subscriber, 1 behind\n"
    assert err == (
        "triocast: line 2: not published (413 Request Entity Too Large): the message is over 1048576 bytes\n"
        if sys.version_info < (3, 13)
        else "triocast: line 2: not published (413 Content Too Large): the message is over 1048576 bytes\n"
    )
    assert server.bodies == [b"one", b"two"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            refusal(401, "unauthorized", "a key is needed"),
            "not published (401 Unauthorized): a key is needed; the key is",
        ),
        (
            refusal(503, "shutting_down", "the server is leaving", **{"Retry-After": "7"}),
            "not published (503 Service Unavailable): the server is leaving; try again in 7 s",
        ),
        (
            (502, b"<html>", {}),
            "answered 502 Bad Gateway, which is no answer of Triocast's: is this the right address?",
        ),
        ((200, b"hello", {}), "answered 200 OK, which is no answer of Triocast's"),
        ((None, b"", {}), "the message may have been published or not"),
    ],
)
def test_what_the_server_says_is_said_and_the_exit_code_is_1(answer, told, server):
    server.answers = [answer]
    code, out, err = publish(server, "chat", "x")
    assert (code, out) == (1, "")
    assert err.startswith("triocast: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert len(server.requests) == 1


LOST = (None, b"", {})
UNKNOWN = refusal(503, "unknown_outcome", "the engine's answer was lost", **{"Retry-After": "1"})


@pytest.mark.parametrize("lost", [LOST, UNKNOWN])
def test_with_an_idempotency_key_an_answer_that_is_lost_is_asked_for_again(lost, server):
    server.answers = [lost]
    code, out, err = publish(server, "chat", "x", "--idempotency-key", "a/b+c")
    assert (code, err) == (0, "")
    assert json.loads(out)["offset"] == 2
    assert [path for path, _, _ in server.requests] == ["/publish/chat?idempotency_key=a%2Fb%2Bc"] * 2
    assert server.bodies == [b"x"] * 2


def test_without_one_it_is_not_and_what_is_known_is_said(server):
    server.answers = [UNKNOWN]
    code, out, err = publish(server, "chat", "x")
    assert (code, out) == (1, "")
    assert "does not know whether the message was published: the engine's answer was lost" in err
    assert [path for path, _, _ in server.requests] == ["/publish/chat"]


def test_what_is_refused_is_not_asked_for_again(server):
    server.answers = [refusal(422, "idempotency_conflict", "this key came with another message")]
    code, _, err = publish(server, "chat", "x", "--idempotency-key", "k")
    assert code == 1
    assert "this key came with another message" in err
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "later", [LOST, refusal(503, "shutting_down", "the server is leaving", **{"Retry-After": "1"})]
)
def test_an_answer_that_stays_lost_is_not_taken_for_a_refusal(later, server):
    server.answers = [LOST, later, later, later]
    waited = []
    target = parse_url("http://{}:{}".format(*server.server_address))
    with closing(Publisher(target, None, PATIENCE, sleep=waited.append)) as publisher:
        with pytest.raises(AnswerLost, match="may have been published or not"):
            publisher.publish("chat", b"x", TEXT, {"idempotency_key": "k"})
        assert len(server.requests) == 1 + len(PAUSES)
        assert tuple(waited) == PAUSES


def elsewhere(position):
    error = {"code": "unexpected_position", "message": "it is elsewhere", "position": position}
    return 409, json.dumps({"error": error}).encode(), {}


def test_an_answer_that_is_lost_is_no_riddle_if_the_group_is_elsewhere_when_it_is_asked_for_again(server):
    server.answers = [LOST, elsewhere("e:2")]
    code, out, err = publish(server, "chat", "x", "--idempotency-key", "k", "--expected", "e:1")
    assert (code, out) == (3, "")
    assert "not published: the group is at e:2 now" in err
    assert len(server.requests) == 2


@pytest.mark.parametrize(("expected", "position"), [("e:1", "f:1"), ("e:1", "0"), ("0", "e:1")])
def test_it_stays_one_where_the_key_may_be_forgotten(expected, position, server):
    server.answers = [LOST, *[elsewhere(position)] * len(PAUSES)]
    target = parse_url("http://{}:{}".format(*server.server_address))
    with closing(Publisher(target, None, PATIENCE, sleep=lambda _: None)) as publisher:
        with pytest.raises(AnswerLost, match="may have been published or not"):
            publisher.publish("chat", b"x", TEXT, {"idempotency_key": "k", "expected": expected})


def test_a_server_that_is_away_for_a_moment_is_asked_when_it_is_back(unix_server):
    here = unix_server.server_address
    moves = iter([(here, here + ".away"), (here + ".away", here)])
    unix_server.answers = [LOST]
    unix_server.hang_up = True

    def sleep(_seconds):
        os.rename(*next(moves))

    with closing(Publisher(parse_url(f"unix:{here}"), None, PATIENCE, sleep=sleep)) as publisher:
        assert publisher.publish("chat", b"x", TEXT, {"idempotency_key": "k"}).offset == 2


def test_lines_have_keys_of_their_own_the_same_each_time(server):
    publish(server, "chat", "--idempotency-key", "job", given=b"one\ntwo\n")
    assert [path.partition("=")[2] for path, _, _ in server.requests] == ["job%3A1", "job%3A2"]


def test_a_receipt_of_an_earlier_publish_says_so(server):
    told = {"group": "chat", "epoch": "e", "offset": 1, "subscribers": 3, "behind": 0, "repeated": True}
    server.answers = [(200, json.dumps(told).encode(), {})] * 2
    assert json.loads(publish(server, "chat", "x")[1]) == told
    out = publish(server, "chat", "x", "--output", "text")[1]
    assert out == "sent before to chat at offset 1: 3 subscribers, 0 behind\n"


def test_a_bad_idempotency_key_is_refused_before_anything_is_sent(server):
    code, _, err = publish(server, "chat", "x", "--idempotency-key", "a b")
    assert code != 0
    assert "1 to 255 printable ASCII characters without spaces" in err
    assert server.requests == []


def test_whom_it_excludes_and_where_it_expects_the_group_go_into_the_address(server):
    told = ["--exclude", "id-1_A", "--expected", "e:7", "--idempotency-key", "k"]
    assert publish(server, "chat", "x", *told)[0] == 0
    assert server.requests[0][0] == "/publish/chat?idempotency_key=k&exclude=id-1_A&expected=e%3A7"
    publish(server, "chat", "--exclude", "id", given=b"one\ntwo\n")
    assert [path for path, _, _ in server.requests[1:]] == ["/publish/chat?exclude=id"] * 2


def test_a_group_that_is_elsewhere_has_an_exit_code_of_its_own_and_its_position_is_said(server):
    error = {"code": "unexpected_position", "message": "chat is at e:9, not at e:7: …", "position": "e:9"}
    server.answers = [(409, json.dumps({"error": error}).encode(), {})]
    code, out, err = publish(server, "chat", "x", "--expected", "e:7")
    assert (code, out) == (3, "")
    assert err == "triocast: not published: the group is at e:9 now; see what is new, then expect that\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["x", "--exclude", "a b"], "is no connection's id"),
        (["x", "--expected", "7"], "is no position"),
        (["--expected", "e:7"], "--expected goes with one message"),
    ],
)
def test_an_option_that_can_not_be_meant_is_refused_before_anything_is_sent(options, told, server):
    code, _, err = publish(server, "chat", *options, given=b"one\n")
    assert code != 0
    assert told in err
    assert server.requests == []


def test_a_server_that_hangs_up_between_messages_gets_a_new_connection(server):
    server.hang_up = True
    with subprocess.Popen(
        command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(server)
    ) as process:
        for offset in (1, 2, 3):
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["offset"] == offset
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_nobody_there_is_said_with_what_to_look_at(server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = "http://{}:{}".format(*free.getsockname())
    code, _, err = publish(server, "chat", "x", TRIOCAST_URL=url)
    assert code == 1
    assert err == f'triocast: cannot reach {url}: connection refused. Is "triocast serve" running there?\n'


def test_a_unix_socket_is_a_url_too(unix_server):
    done = subprocess.run(
        command("chat", "hello", "--url", f"unix:{unix_server.server_address}"),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(done.stdout)["offset"] == 1
    ((_, headers, body),) = unix_server.requests
    assert (headers["Host"], body) == ("localhost", b"hello")


def test_ctrl_c_ends_it_quietly(server):
    with subprocess.Popen(
        command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(server)
    ) as process:
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.strip() == b""


def test_a_reader_of_receipts_that_leaves_ends_it_quietly(server):
    with subprocess.Popen(
        command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(server)
    ) as process:
        process.stdout.close()
        process.stdin.write(b"hello\n")
        process.stdin.close()
        err = process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert err == b""
