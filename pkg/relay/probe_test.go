package relay_test

import (
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/flyproxy/flyproxy/pkg/engine/enginetest"
)

// A peer that is faster than the client must not make the relay hold more and more for it: behind a queue a larger window brings nothing.
func TestWindowDoesNotGrowWhereOctetsQueueUp(t *testing.T) {
	enginetest.CheckLeaks(t)
	const messages, size, bound = 2000, 64 << 10, 4 << 20
	s, _, cc := subject.Pair(t, func(_ *enginetest.Backend, st grpc.ServerStream) error {
		m := enginetest.Message(make([]byte, size))
		for range messages {
			if err := st.SendMsg(&m); err != nil {
				return err
			}
		}
		return nil
	})
	st := enginetest.Open(t, enginetest.Context(t), cc)
	enginetest.Must(t, st.CloseSend())
	var most int64
	for n := 0; ; n++ {
		var m enginetest.Message
		if err := st.RecvMsg(&m); err == io.EOF {
			if n != messages {
				t.Errorf("%d messages came, not %d", n, messages)
			}
			break
		} else {
			enginetest.Must(t, err)
		}
		most = max(most, s.Engine.Stats().BufferedBytes)
	}
	t.Logf("%d KiB were held at the most", most>>10)
	if most > bound {
		t.Errorf("%d octets were held at the most, %d are allowed", most, bound)
	}
}
