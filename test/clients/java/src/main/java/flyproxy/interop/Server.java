package flyproxy.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Metadata;
import io.grpc.ServerBuilder;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** The service of test/clients/README.md on a grpc-java server without any option. */
public final class Server {
  private static final Context.Key<Long> WAIT_MS = Context.keyWithDefault("wait", 0L);

  private Server() {}

  public static void main(String[] args) throws Exception {
    ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
    ServerServiceDefinition service =
        ServerServiceDefinition.builder(Echo.SERVICE)
            .addMethod(Echo.UNARY, ServerCalls.asyncUnaryCall((request, answers) -> unary(timer, request, answers)))
            .addMethod(Echo.UP, ServerCalls.asyncClientStreamingCall(Up::new))
            .addMethod(Echo.BOTH, ServerCalls.asyncBidiStreamingCall(Both::new))
            .build();
    // ServerBuilder.forPort is how an app is started; it listens on all interfaces.
    io.grpc.Server server = ServerBuilder.forPort(0).addService(ServerInterceptors.intercept(service, new Wait())).build().start();
    System.out.println(server.getPort());
    System.in.readAllBytes();
    server.shutdownNow();
    timer.shutdownNow();
  }

  private static void unary(ScheduledExecutorService timer, byte[] request, StreamObserver<byte[]> answers) {
    Runnable answer =
        () -> {
          answers.onNext(request);
          answers.onCompleted();
        };
    timer.schedule(answer, WAIT_MS.get(), TimeUnit.MILLISECONDS);
  }

  /** Takes x-wait-ms over into the call's context. */
  private static final class Wait implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      String asked = headers.get(Echo.text("x-wait-ms"));
      Context context = Context.current().withValue(WAIT_MS, asked == null ? 0L : Long.parseLong(asked));
      return Contexts.interceptCall(context, call, headers, next);
    }
  }

  private static final class Up implements StreamObserver<byte[]> {
    private final StreamObserver<byte[]> answers;
    private long count;
    private long size;

    Up(StreamObserver<byte[]> answers) {
      this.answers = answers;
    }

    @Override
    public void onNext(byte[] message) {
      count++;
      size += message.length;
    }

    @Override
    public void onError(Throwable t) {}

    @Override
    public void onCompleted() {
      answers.onNext((count + " " + size).getBytes(UTF_8));
      answers.onCompleted();
    }
  }

  private static final class Both implements StreamObserver<byte[]> {
    private final StreamObserver<byte[]> answers;

    Both(StreamObserver<byte[]> answers) {
      this.answers = answers;
    }

    @Override
    public void onNext(byte[] message) {
      answers.onNext(message);
    }

    @Override
    public void onError(Throwable t) {}

    @Override
    public void onCompleted() {
      answers.onCompleted();
    }
  }
}
