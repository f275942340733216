package consumertest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/consumers"
	"vaultmesh.cloud/vaultmesh/events"
)

// Feed is a consumers.Feed in memory. The zero value is empty and ready.
type Feed struct {
	mu    sync.Mutex
	items []consumers.Item
	grown chan struct{} // closed when items come
}

// Append adds valid events and returns the index after the last.
func (f *Feed) Append(list ...*events.Event) (uint64, error) {
	items := make([]consumers.Item, len(list))
	for i, e := range list {
		b, err := e.Canonical()
		if err != nil {
			return 0, fmt.Errorf("append to the feed: %w", err)
		}
		event, b, err := events.Parse(b)
		if err != nil {
			return 0, fmt.Errorf("append to the feed: %w", err)
		}
		items[i] = consumers.Item{Time: e.Time, Event: event, Canonical: b, Valid: true}
	}
	return f.AppendItems(items...), nil
}

// AppendItems adds items as they are, except for their index.
func (f *Feed) AppendItems(items ...consumers.Item) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, item := range items {
		item.Index = uint64(len(f.items))
		if item.Time.IsZero() {
			item.Time = time.Unix(0, 0).UTC()
		}
		f.items = append(f.items, item)
	}
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
	return uint64(len(f.items))
}

// Next implements consumers.Feed.
func (f *Feed) Next(ctx context.Context, from uint64, max int) ([]consumers.Item, error) {
	for {
		f.mu.Lock()
		if n := uint64(len(f.items)); from < n {
			list := f.items[from:min(n, from+uint64(max))]
			f.mu.Unlock()
			return list, nil
		}
		if f.grown == nil {
			f.grown = make(chan struct{})
		}
		grown := f.grown
		f.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
