package embedded

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// provider hands out buffered connections to the server in this process. The
// server's own are net.Pipe, where each write waits for the other side's read: that
// halves the throughput, and a refusal that the server writes before it closes is
// lost to a client that is writing.
type provider struct{ ns *server.Server }

func (p provider) InProcessConn() (net.Conn, error) {
	c, err := p.ns.InProcessConn()
	if err != nil {
		return nil, err
	}
	return newBuffered(c), nil
}

// pipeBuffer is how much a direction may hold, in bytes.
const pipeBuffer = 256 << 10

// buffered puts a buffer of bounded size before each direction of a connection. Its
// two goroutines end with Close, or with an error of the connection.
type buffered struct {
	net.Conn
	in, out *ring
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, in: newRing(), out: newRing()}
	go b.pumpIn()
	go b.pumpOut()
	return b
}

func (b *buffered) pumpIn() {
	for {
		room, err := b.in.room()
		if err != nil {
			return
		}
		n, err := b.Conn.Read(room)
		b.in.filled(n)
		if err != nil {
			b.in.fail(err)
			return
		}
	}
}

func (b *buffered) pumpOut() {
	defer func() { _ = b.Conn.Close() }() // after what was written before Close
	for {
		data, err := b.out.data()
		if err != nil {
			return
		}
		n, err := b.Conn.Write(data)
		b.out.taken(n)
		if err != nil {
			b.out.fail(err)
			return
		}
	}
}

func (b *buffered) Read(p []byte) (int, error)  { return b.in.read(p) }
func (b *buffered) Write(p []byte) (int, error) { return b.out.write(p) }

// Close sends what was written, for at most a moment, and ends the connection.
func (b *buffered) Close() error {
	_ = b.Conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	b.in.fail(net.ErrClosed)
	b.out.fail(net.ErrClosed)
	_ = b.Conn.SetReadDeadline(time.Now())
	return nil
}

func (b *buffered) SetDeadline(t time.Time) error {
	return errors.Join(b.SetReadDeadline(t), b.SetWriteDeadline(t))
}

func (b *buffered) SetReadDeadline(t time.Time) error {
	b.in.readDeadline.set(b.in, t)
	return nil
}

func (b *buffered) SetWriteDeadline(t time.Time) error {
	b.out.writeDeadline.set(b.out, t)
	return nil
}

// ring is a bounded byte queue with one reader and one writer.
type ring struct {
	mu                          sync.Mutex
	cond                        *sync.Cond
	buf                         []byte
	start, n                    int // the bytes in the queue: n from start on, around the end
	err                         error
	readDeadline, writeDeadline deadline
}

// deadline wakes a ring's waiters when its time has come.
type deadline struct {
	past  bool
	timer *time.Timer
}

func (d *deadline) set(r *ring, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.past = !t.IsZero() && !time.Now().Before(t); d.past {
		r.cond.Broadcast()
	}
	if t.IsZero() || d.past {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if d.timer == timer {
			d.past = true
			r.cond.Broadcast()
		}
	})
	d.timer = timer
}

func newRing() *ring {
	r := &ring{buf: make([]byte, pipeBuffer)}
	r.cond = sync.NewCond(&r.mu)
	return r
}

// room waits for free space and returns the first contiguous piece, for the one
// writer.
func (r *ring) room() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n == len(r.buf) && r.err == nil {
		r.cond.Wait()
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.free(), nil
}

func (r *ring) free() []byte {
	from := (r.start + r.n) % len(r.buf)
	return r.buf[from:min(len(r.buf), from+len(r.buf)-r.n)]
}

func (r *ring) filled(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += n
	r.cond.Broadcast()
}

// data waits for bytes and returns the first contiguous piece, for the one reader.
// After fail it returns what is left, then the error.
func (r *ring) data() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n == 0 && r.err == nil {
		r.cond.Wait()
	}
	if r.n == 0 {
		return nil, r.err
	}
	return r.buf[r.start:min(len(r.buf), r.start+r.n)], nil
}

func (r *ring) taken(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start, r.n = (r.start+n)%len(r.buf), r.n-n
	r.cond.Broadcast()
}

func (r *ring) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.cond.Broadcast()
}

func (r *ring) read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case r.readDeadline.past:
			return 0, os.ErrDeadlineExceeded
		case errors.Is(r.err, net.ErrClosed):
			return 0, io.ErrClosedPipe // closed on this side: nothing more is read
		case r.n > 0:
			total := 0
			for total < len(p) && r.n > 0 {
				k := copy(p[total:], r.buf[r.start:min(len(r.buf), r.start+r.n)])
				r.start, r.n, total = (r.start+k)%len(r.buf), r.n-k, total+k
			}
			r.cond.Broadcast()
			return total, nil
		case r.err != nil:
			return 0, r.err
		}
		r.cond.Wait()
	}
}

func (r *ring) write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := 0
	for {
		switch {
		case r.err != nil:
			return total, io.ErrClosedPipe
		case r.writeDeadline.past:
			return total, os.ErrDeadlineExceeded
		case len(p) == 0:
			return total, nil
		}
		for len(p) > 0 && r.n < len(r.buf) {
			k := copy(r.free(), p)
			r.n, total, p = r.n+k, total+k, p[k:]
			r.cond.Broadcast()
		}
		if len(p) > 0 {
			r.cond.Wait()
		}
	}
}
