package flyproxy.interop;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** The cases of test/clients/README.md with grpc-java. */
public final class Client {
  private static final int LARGE = 8 << 20;
  private static final Metadata.Key<String> ECHO_TEXT = Echo.text("x-echo-text");
  private static final Metadata.Key<byte[]> ECHO_BIN = Echo.binary("x-echo-bin");

  private interface Case {
    Map<String, Object> run(Channel channel) throws Exception;
  }

  private Client() {}

  public static void main(String[] args) throws Exception {
    ManagedChannel channel =
        Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create()).maxInboundMessageSize(2 * LARGE).build();
    Map<String, Case> cases = new LinkedHashMap<>();
    cases.put("unary", Client::unary);
    cases.put("server_stream", Client::serverStream);
    cases.put("client_stream", Client::clientStream);
    cases.put("ping_pong", Client::pingPong);
    cases.put("metadata", Client::metadata);
    cases.put("deadline", Client::deadline);
    cases.put("cancel", Client::cancel);
    cases.put("error", Client::error);
    cases.put("large", Client::large);
    cases.put("concurrent", Client::concurrent);
    cases.put("gzip", Client::gzip);
    Gson gson = new Gson();
    for (Map.Entry<String, Case> c : cases.entrySet()) {
      Map<String, Object> line = new LinkedHashMap<>(Map.of("case", c.getKey()));
      try {
        line.putAll(c.getValue().run(channel));
      } catch (Exception e) {
        line.put("failure", e.toString());
      }
      System.out.println(gson.toJson(line));
    }
    channel.shutdownNow();
    channel.awaitTermination(10, TimeUnit.SECONDS);
  }

  private static Map<String, Object> unary(Channel channel) {
    return Map.of("reply", string(call(channel, bytes("hello"), new Metadata())));
  }

  private static Map<String, Object> serverStream(Channel channel) {
    List<String> messages = new ArrayList<>();
    Iterator<byte[]> replies = ClientCalls.blockingServerStreamingCall(channel, Echo.DOWN, options(), bytes("200"));
    replies.forEachRemaining(m -> messages.add(string(m)));
    return Map.of("messages", messages);
  }

  private static Map<String, Object> clientStream(Channel channel) throws Exception {
    Stream up = new Stream(channel, Echo.UP, new Metadata());
    for (int n = 0; n < 200; n++) {
      byte[] message = new byte[1000];
      Arrays.fill(message, (byte) n);
      up.requests.onNext(message);
    }
    up.requests.onCompleted();
    String reply = string(up.next());
    up.end();
    return Map.of("reply", reply);
  }

  private static Map<String, Object> pingPong(Channel channel) throws Exception {
    Stream both = new Stream(channel, Echo.BOTH, new Metadata());
    List<String> messages = new ArrayList<>();
    for (int n = 0; n < 50; n++) {
      both.requests.onNext(bytes(Integer.toString(n)));
      messages.add(string(both.next()));
    }
    both.requests.onCompleted();
    both.end();
    return Map.of("messages", messages);
  }

  private static Map<String, Object> metadata(Channel channel) {
    byte[] all = new byte[256];
    for (int i = 0; i < all.length; i++) {
      all[i] = (byte) i;
    }
    Metadata sent = headers("x-echo-text", "a", "x-echo-text", "b");
    sent.put(ECHO_BIN, all);
    AtomicReference<Metadata> headers = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    call(ClientInterceptors.intercept(channel, MetadataUtils.newCaptureMetadataInterceptor(headers, trailers)), bytes("m"), sent);
    return Map.of("headers", echoed(headers.get()), "trailers", echoed(trailers.get()));
  }

  private static Map<String, Object> deadline(Channel channel) {
    StatusRuntimeException e =
        failure(
            with(channel, headers("x-wait-ms", "60000", "x-note", "deadline")),
            CallOptions.DEFAULT.withDeadlineAfter(300, TimeUnit.MILLISECONDS));
    return Map.of("code", e.getStatus().getCode().value());
  }

  private static Map<String, Object> cancel(Channel channel) throws Exception {
    Stream both = new Stream(channel, Echo.BOTH, headers("x-stay", "1", "x-note", "cancel"));
    both.requests.onNext(bytes("first"));
    both.next();
    both.requests.cancel("enough", null);
    return Map.of("code", both.failure().getCode().value());
  }

  private static Map<String, Object> error(Channel channel) {
    StatusRuntimeException e = failure(with(channel, headers("x-fail", "1")), options());
    byte[] details = e.getTrailers().get(Echo.binary("grpc-status-details-bin"));
    return Map.of("code", e.getStatus().getCode().value(), "message", e.getStatus().getDescription(), "details", base64(details));
  }

  private static Map<String, Object> large(Channel channel) {
    return same(channel, LARGE, new Metadata(), options());
  }

  private static Map<String, Object> concurrent(Channel channel) throws Exception {
    Channel gathering = with(channel, headers("x-gather", "100"));
    List<Future<byte[]>> calls = new ArrayList<>();
    for (int n = 0; n < 100; n++) {
      calls.add(ClientCalls.futureUnaryCall(gathering.newCall(Echo.UNARY, options()), bytes(String.format("%02d", n))));
    }
    List<String> messages = new ArrayList<>();
    for (Future<byte[]> call : calls) {
      messages.add(string(call.get()));
    }
    messages.sort(null);
    return Map.of("messages", messages);
  }

  private static Map<String, Object> gzip(Channel channel) {
    return same(channel, 100_000, headers("x-gzip", "1", "x-note", "gzip"), options().withCompression("gzip"));
  }

  private static Map<String, Object> same(Channel channel, int size, Metadata headers, CallOptions options) {
    byte[] message = new byte[size];
    Arrays.fill(message, (byte) 'f');
    byte[] reply = ClientCalls.blockingUnaryCall(with(channel, headers), Echo.UNARY, options, message);
    return Map.of("bytes", reply.length, "same", Arrays.equals(reply, message));
  }

  private static byte[] call(Channel channel, byte[] message, Metadata headers) {
    return ClientCalls.blockingUnaryCall(with(channel, headers), Echo.UNARY, options(), message);
  }

  private static StatusRuntimeException failure(Channel channel, CallOptions options) {
    try {
      ClientCalls.blockingUnaryCall(channel, Echo.UNARY, options, bytes("e"));
    } catch (StatusRuntimeException e) {
      return e;
    }
    throw new IllegalStateException("the call did not fail");
  }

  static CallOptions options() {
    return CallOptions.DEFAULT.withDeadlineAfter(30, TimeUnit.SECONDS);
  }

  static Channel with(Channel channel, Metadata headers) {
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static Metadata headers(String... pairs) {
    Metadata headers = new Metadata();
    for (int i = 0; i < pairs.length; i += 2) {
      headers.put(Echo.text(pairs[i]), pairs[i + 1]);
    }
    return headers;
  }

  private static Map<String, List<String>> echoed(Metadata metadata) {
    List<String> text = new ArrayList<>();
    List<String> binary = new ArrayList<>();
    metadata.getAll(ECHO_TEXT).forEach(text::add);
    metadata.getAll(ECHO_BIN).forEach(value -> binary.add(base64(value)));
    return Map.of(ECHO_TEXT.name(), text, ECHO_BIN.name(), binary);
  }

  private static byte[] bytes(String s) {
    return s.getBytes(UTF_8);
  }

  private static String string(byte[] b) {
    return new String(b, UTF_8);
  }

  private static String base64(byte[] b) {
    return Base64.getEncoder().encodeToString(b);
  }
}
