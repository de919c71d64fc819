package admin

import (
	"bytes"
	"io"
)

// Screen shows one frame after another at the same place of a terminal, as `flyproxy status --watch` does. It writes over what
// stands there instead of clearing first, so nothing flickers. It belongs to one goroutine.
type Screen struct {
	w     io.Writer
	drawn bool
}

// NewScreen makes a Screen on a terminal.
func NewScreen(w io.Writer) *Screen { return &Screen{w: w} }

// The control sequences in use (ECMA-48 §8.3): cursor to the first line, erase to the end of the line, erase from here to the
// end of the screen, erase all.
const (
	cursorHome = "\x1b[H"
	eraseLine  = "\x1b[K"
	eraseBelow = "\x1b[J"
	eraseAll   = "\x1b[2J"
)

// Draw shows a frame in one Write. With height, the number of the terminal's lines, a longer frame is cut off with a mark; 0
// means that it is not known.
func (s *Screen) Draw(frame []byte, height int) error {
	var b bytes.Buffer
	if !s.drawn {
		b.WriteString(eraseAll)
		s.drawn = true
	}
	b.WriteString(cursorHome)
	lines := bytes.Split(bytes.TrimSuffix(frame, []byte("\n")), []byte("\n"))
	// The last line of the terminal stays free: a line break there would scroll.
	if most := height - 1; most > 0 && len(lines) > most {
		lines = append(lines[:most-1:most-1], []byte("…"))
	}
	for _, l := range lines {
		b.Write(l)
		b.WriteString(eraseLine + "\n")
	}
	b.WriteString(eraseBelow)
	_, err := s.w.Write(b.Bytes())
	return err
}
