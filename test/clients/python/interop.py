"""The cases of ../README.md with grpcio."""

import base64
import json
import queue
import sys

import grpc

PATIENCE = 30
LARGE = 8 << 20
ROOM = (("grpc.max_receive_message_length", 2 * LARGE), ("grpc.max_send_message_length", 2 * LARGE))


class Echo:
    """The service's stub, on plain bytes."""

    def __init__(self, channel):
        path = "/flyproxy.interop.Echo/"
        self.unary = channel.unary_unary(path + "Unary")
        self.down = channel.unary_stream(path + "Down")
        self.up = channel.stream_unary(path + "Up")
        self.both = channel.stream_stream(path + "Both")


def unary(stub, _):
    return {"reply": stub.unary(b"hello", timeout=PATIENCE).decode()}


def server_stream(stub, _):
    return {"messages": [m.decode() for m in stub.down(b"200", timeout=PATIENCE)]}


def client_stream(stub, _):
    return {"reply": stub.up((bytes([n]) * 1000 for n in range(200)), timeout=PATIENCE).decode()}


def ping_pong(stub, _):
    to_send = queue.SimpleQueue()
    to_send.put(b"0")
    messages = []
    for m in stub.both(iter(to_send.get, None), timeout=PATIENCE):
        messages.append(m.decode())
        to_send.put(str(len(messages)).encode() if len(messages) < 50 else None)
    return {"messages": messages}


def echoed(metadata):
    got = {"x-echo-text": [], "x-echo-bin": []}
    for key, value in metadata:
        if key == "x-echo-text":
            got[key].append(value)
        elif key == "x-echo-bin":
            got[key].append(base64.b64encode(value).decode())
    return got


def metadata(stub, _):
    sent = (("x-echo-text", "a"), ("x-echo-text", "b"), ("x-echo-bin", bytes(range(256))))
    _, call = stub.unary.with_call(b"m", timeout=PATIENCE, metadata=sent)
    return {"headers": echoed(call.initial_metadata()), "trailers": echoed(call.trailing_metadata())}


def failure_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")


def deadline(stub, _):
    noted = (("x-wait-ms", "60000"), ("x-note", "deadline"))
    error = failure_of(lambda: stub.unary(b"late", timeout=0.3, metadata=noted))
    return {"code": error.code().value[0]}


def cancel(stub, _):
    to_send = queue.SimpleQueue()
    to_send.put(b"first")
    noted = (("x-stay", "1"), ("x-note", "cancel"))
    call = stub.both(iter(to_send.get, None), timeout=PATIENCE, metadata=noted)
    next(call)
    call.cancel()
    error = failure_of(lambda: next(call))
    to_send.put(None)
    return {"code": error.code().value[0]}


def error(stub, _):
    e = failure_of(lambda: stub.unary(b"e", timeout=PATIENCE, metadata=(("x-fail", "1"),)))
    details = dict(e.trailing_metadata())["grpc-status-details-bin"]
    return {"code": e.code().value[0], "message": e.details(), "details": base64.b64encode(details).decode()}


def large(stub, _):
    message = b"flyproxy" * (LARGE // 8)
    reply = stub.unary(message, timeout=PATIENCE)
    return {"bytes": len(reply), "same": reply == message}


def concurrent(stub, _):
    gather = (("x-gather", "100"),)
    calls = [stub.unary.future(b"%02d" % n, timeout=PATIENCE, metadata=gather) for n in range(100)]
    return {"messages": sorted(call.result().decode() for call in calls)}


def gzip(_, target):
    message = b"flyproxy" * 12_500
    with grpc.insecure_channel(target, compression=grpc.Compression.Gzip) as channel:
        asked = (("x-gzip", "1"), ("x-note", "gzip"))
        reply = Echo(channel).unary(message, timeout=PATIENCE, metadata=asked)
    return {"bytes": len(reply), "same": reply == message}


CASES = (unary, server_stream, client_stream, ping_pong, metadata, deadline, cancel, error, large, concurrent, gzip)


def main(target):
    with grpc.insecure_channel(target, options=ROOM) as channel:
        stub = Echo(channel)
        for case in CASES:
            try:
                result = case(stub, target)
            except Exception as e:  # The next cases run all the same.
                result = {"failure": repr(e)}
            print(json.dumps({"case": case.__name__, **result}), flush=True)


main(sys.argv[1])
