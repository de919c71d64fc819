"""The service of ../README.md on a grpcio server without any option."""

import sys
import time
from concurrent import futures

import grpc


def wait(context):
    """Waits as long as the call asks for, or until it is over."""
    asked = dict(context.invocation_metadata()).get("x-wait-ms")
    until = time.monotonic() + int(asked or 0) / 1000
    while context.is_active() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


def unary(request, context):
    wait(context)
    return request


def up(requests, _):
    count = size = 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return f"{count} {size}".encode()


def both(requests, _):
    yield from requests


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=128))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("flyproxy.interop.Echo", methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


main()
