"""An app's client as it is without flyproxy: plain grpcio, plain localhost. It prints one JSON line for each thing it did."""

import json
import sys
from pathlib import Path

import grpc

# grpcio makes the stubs from the .proto file itself (grpcio-tools).
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "proto"))
protos, services = grpc.protos_and_services("flyproxy/demo/v1/greeter.proto")


def say(what, **value):
    print(json.dumps({"what": what, **value}), flush=True)


def main(target, rounds):
    with grpc.insecure_channel(target) as channel:
        stub = services.GreeterStub(channel)
        instances = {}
        for n in range(rounds):
            reply = stub.Hello(protos.HelloRequest(name=f"python {n}"), timeout=10)
            assert reply.greeting == f"Hello, python {n}!", reply
            instances[reply.instance] = instances.get(reply.instance, 0) + 1
        say("unary", instances=instances)
        pinned = next(iter(instances))
        metadata = (("fly-force-instance-id", pinned),)
        got = stub.Hello(protos.HelloRequest(), timeout=10, metadata=metadata).instance
        say("pinned", wanted=pinned, got=got)
        request = protos.CountRequest(name="python", times=5, pause_ms=5)
        say("count", numbers=[r.number for r in stub.Count(request, timeout=10)])
        words = iter(["a", "b", "c"])
        say("chat", heard=[r.greeting for r in stub.Chat((protos.HelloRequest(name=w) for w in words), timeout=10)])


main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)
