package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interrupts turns the first SIGTERM or SIGINT into the end of a context, on which everything drains. The second one ends the process as
// if nobody handled it.
type interrupts struct {
	signals chan os.Signal
	cancel  context.CancelCauseFunc
	quit    chan struct{}
	done    chan struct{} // closed once no signal can end the context any more
}

// interrupted is why a context has ended, and which signal it was.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return "told to end by signal " + i.signal.String() }

// interruptible gives a context that ends with the first signal. Its cause is interrupted then.
func interruptible() (context.Context, *interrupts) {
	ctx, cancel := context.WithCancelCause(context.Background())
	i := &interrupts{signals: make(chan os.Signal, 1), cancel: cancel, quit: make(chan struct{}), done: make(chan struct{})}
	signal.Notify(i.signals, syscall.SIGTERM, syscall.SIGINT)
	go i.run()
	return ctx, i
}

func (i *interrupts) run() {
	defer close(i.done)
	select {
	case sig := <-i.signals:
		signal.Stop(i.signals)
		i.end(sig)
	case <-i.quit:
		select {
		case sig := <-i.signals: // it came before the stop
			i.end(sig)
		default:
		}
	}
}

func (i *interrupts) end(sig os.Signal) { i.cancel(interrupted{sig.(syscall.Signal)}) } // there are no others on Unix

// stop gives the signals back to whoever handles them else: the default action, if nobody does. A signal that came before has ended the
// context when it returns; one that comes later does not. It can be called once.
func (i *interrupts) stop() {
	signal.Stop(i.signals)
	close(i.quit)
	<-i.done
}

// signalOf is the signal that has ended ctx, SIGTERM if it was something else.
func signalOf(ctx context.Context) syscall.Signal {
	if i, ok := context.Cause(ctx).(interrupted); ok {
		return i.signal
	}
	return syscall.SIGTERM
}
