package flyproxy.interop;

import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** A streaming call whose answers are taken one by one. It belongs to one thread. */
final class Stream implements StreamObserver<byte[]> {
  final ClientCallStreamObserver<byte[]> requests;
  private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();

  Stream(Channel channel, MethodDescriptor<byte[], byte[]> method, Metadata headers) {
    ClientCall<byte[], byte[]> call = Client.with(channel, headers).newCall(method, Client.options());
    boolean streams = method.getType() == MethodDescriptor.MethodType.BIDI_STREAMING;
    requests =
        (ClientCallStreamObserver<byte[]>)
            (streams ? ClientCalls.asyncBidiStreamingCall(call, this) : ClientCalls.asyncClientStreamingCall(call, this));
  }

  /** Awaits the next answer. */
  byte[] next() throws InterruptedException {
    Object event = take();
    if (event instanceof byte[]) {
      return (byte[]) event;
    }
    throw ((Status) event).asRuntimeException();
  }

  /** Awaits the call's end, which must be OK and without another answer. */
  void end() throws InterruptedException {
    Object event = take();
    if (event != Status.OK) {
      throw new IllegalStateException("instead of the call's end: " + event);
    }
  }

  /** Awaits that the call fails. */
  Status failure() throws InterruptedException {
    Object event = take();
    if (event instanceof Status && event != Status.OK) {
      return (Status) event;
    }
    throw new IllegalStateException("the call did not fail");
  }

  private Object take() throws InterruptedException {
    Object event = events.poll(30, TimeUnit.SECONDS);
    if (event == null) {
      throw new IllegalStateException("nothing came");
    }
    return event;
  }

  @Override
  public void onNext(byte[] answer) {
    events.add(answer);
  }

  @Override
  public void onError(Throwable t) {
    events.add(Status.fromThrowable(t));
  }

  @Override
  public void onCompleted() {
    events.add(Status.OK);
  }
}
