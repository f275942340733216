package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Rebuild makes the ledger in dir anew from the stream: it folds into dir.new,
// compares leaf by leaf with what dir holds (if dir can be opened), and only
// then swaps the two; the old one stays as dir.old. The stream ends at sequence
// last. If the comparison fails nothing is swapped and the error is a
// *Divergence.
//
// A crash leaves either the old or the new ledger in place: [Recover] finishes
// the swap at the next start.
func Rebuild(ctx context.Context, dir string, opts Options, epoch uint32, created time.Time, s Stream, last uint64, progress func(done uint64)) (Head, error) {
	next, old := dir+".new", dir+".old"
	if err := os.RemoveAll(next); err != nil {
		return Head{}, fmt.Errorf("rebuild the ledger: %w", err)
	}
	head, err := refold(ctx, next, opts, epoch, created, s, last, progress)
	if err != nil {
		return head, fmt.Errorf("rebuild the ledger: %w", err)
	}
	if err := compareDirs(dir, next, opts); err != nil {
		return head, err
	}
	if err := os.RemoveAll(old); err != nil {
		return head, fmt.Errorf("rebuild the ledger: %w", err)
	}
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return head, fmt.Errorf("rebuild the ledger: %w", err)
	}
	return head, Recover(dir)
}

// Recover finishes a swap that a crash cut in two: the old ledger is away and
// the new one, complete since the old one was moved, is not yet in place.
func Recover(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Rename(dir+".new", dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("put the rebuilt ledger in place: %w", err)
	}
	return nil
}

// AuditStream folds the stream up to sequence last into a new ledger in dir,
// which must not exist and is removed afterwards, and compares it with l. before
// is the ledger's head from before last was asked for. The error is a
// *Divergence for the first leaf that differs, or that the stream does not have.
func (l *Ledger) AuditStream(ctx context.Context, dir string, before Head, epoch uint32, created time.Time, s Stream, last uint64, progress func(done uint64)) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	opts := Options{Registry: nil, Logger: nil}
	if _, err := refold(ctx, dir, opts, epoch, created, s, last, progress); err != nil {
		return fmt.Errorf("fold the stream again: %w", err)
	}
	other, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	if err := Compare(l, other, "the store", "the stream"); err != nil {
		return err
	}
	if got, want := other.Head().Size, before.Size; got < want {
		return &Divergence{got, fmt.Sprintf("the stream gives %d leaves, the store has %d", got, want)}
	}
	return nil
}

// refold folds the stream up to sequence last into a new ledger.
func refold(ctx context.Context, dir string, opts Options, epoch uint32, created time.Time, s Stream, last uint64, progress func(done uint64)) (head Head, err error) {
	opts.NoSync, opts.ReadOnly = true, false
	l, err := Open(dir, opts)
	if err != nil {
		return Head{}, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if last == 0 {
		return l.Head(), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for {
			changed := l.Changed()
			at := l.Head().Position.Sequence
			if progress != nil {
				progress(at)
			}
			if at >= last {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err = l.Fold(ctx, epoch, created, s)
	cancel()
	<-done
	head = l.Head()
	if head.Position.Sequence >= last {
		err = l.db.Flush()
	}
	return head, err
}

func compareDirs(dir, next string, opts Options) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	opts.ReadOnly, opts.NoSync = true, true
	was, err := Open(dir, opts)
	if err != nil {
		// A store that cannot be opened is why one rebuilds.
		if opts.Logger != nil {
			opts.Logger.Warn("the old ledger cannot be read, nothing to compare with", "error", err)
		}
		return nil
	}
	defer func() { err = errors.Join(err, was.Close()) }()
	now, err := Open(next, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, now.Close()) }()
	if err := Compare(was, now, "the store", "the stream"); err != nil {
		return err
	}
	if got, want := now.Head().Size, was.Head().Size; got < want {
		return &Divergence{got, fmt.Sprintf("the stream gives %d leaves, the store has %d", got, want)}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
