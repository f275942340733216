package record

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// locks serialise intentions that could meet in the log, by name.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the name is free again
}

// lock takes all names, in one order so that two callers cannot wait for each
// other, or none if ctx ends. The caller calls the returned function once.
func (l *locks) lock(ctx context.Context, names ...string) (unlock func(), err error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	taken := 0
	unlock = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, name := range names[:taken] {
			close(l.held[name])
			delete(l.held, name)
		}
	}
	for _, name := range names {
		for {
			l.mu.Lock()
			free, busy := l.held[name]
			if !busy {
				if l.held == nil {
					l.held = map[string]chan struct{}{}
				}
				l.held[name] = make(chan struct{})
				taken++
			}
			l.mu.Unlock()
			if !busy {
				break
			}
			select {
			case <-free:
			case <-ctx.Done():
				unlock()
				return nil, fmt.Errorf("wait for another request about the same: %w", ctx.Err())
			}
		}
	}
	return unlock, nil
}
