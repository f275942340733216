package term

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A Bar shows how far long work is. On anything but a terminal it shows nothing.
// The zero value and nil are such silent bars.
type Bar struct {
	pool *mpb.Progress
	bar  *mpb.Bar
}

// Bytes starts a bar that counts bytes. A total of 0 or less means unknown.
// Call Done before anything else is printed.
func (t *Term) Bytes(title string, total int64) *Bar {
	return t.bar(title, total, decor.CountersKibiByte("% .1f / % .1f"))
}

// Steps starts a bar that counts things.
func (t *Term) Steps(title string, total int64) *Bar {
	return t.bar(title, total, decor.CountersNoUnit("%d / %d"))
}

func (t *Term) bar(title string, total int64, counters decor.Decorator) *Bar {
	if !t.Interactive() {
		return &Bar{}
	}
	pool := mpb.New(mpb.WithOutput(t.stderr), mpb.WithWidth(32))
	bar := pool.AddBar(total,
		mpb.PrependDecorators(decor.Name(Safe(title)+" ")),
		mpb.AppendDecorators(counters),
		mpb.BarRemoveOnComplete())
	return &Bar{pool: pool, bar: bar}
}

// Add says that n more are done.
func (b *Bar) Add(n int64) {
	if b != nil && b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// Set says how many are done, of how many.
func (b *Bar) Set(done, total int64) {
	if b != nil && b.bar != nil {
		b.bar.SetTotal(total, false)
		b.bar.SetCurrent(done)
	}
}

// Reader counts what is read from r.
func (b *Bar) Reader(r io.Reader) io.Reader {
	if b == nil || b.bar == nil {
		return r
	}
	return &counter{r, b}
}

type counter struct {
	r io.Reader
	b *Bar
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.b.Add(int64(n))
	return n, err
}

// Done removes the bar. It may be called twice.
func (b *Bar) Done() {
	if b == nil || b.bar == nil {
		return
	}
	b.bar.Abort(true)
	b.pool.Wait()
	b.bar = nil
}
