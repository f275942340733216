package bus

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
)

// A wait is a call that a permission violation may concern. The broker reports
// violations apart from the request, which would otherwise only time out.
type wait struct {
	concerns func(subject string) bool
	denied   chan error // holds the first violation
}

// watch makes violations on subjects end a call. The caller calls the returned
// function when it is done, so that the table is bounded by the calls in flight.
func (c *Conn) watch(concerns func(subject string) bool) (*wait, func()) {
	w := &wait{concerns: concerns, denied: make(chan error, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits[w] = struct{}{}
	return w, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waits, w)
	}
}

func (c *Conn) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		if sub != nil {
			c.log.Warn("broker", "err", err, "subject", sub.Subject)
		} else {
			c.log.Warn("broker", "err", err)
		}
		return
	}
	denied := parseViolation(err.Error())
	if denied == nil {
		c.log.Warn("broker refused a permission", "err", err)
		return
	}
	c.log.Warn("broker refused a permission", "action", denied.Action, "subject", denied.Subject)
	// Without its inbox no call can ever be answered.
	all := denied.Action == subscribeTo && strings.HasPrefix(denied.Subject, c.inbox+".")
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waits {
		if all || w.concerns(denied.Subject) {
			select {
			case w.denied <- denied:
			default:
			}
		}
	}
}

const (
	publishTo   = "publish to"
	subscribeTo = "subscribe to"
)

// parseViolation reads the broker's text, such as
// `Permissions Violation for Publish to "vm.deploy.api.ci"`.
func parseViolation(text string) *NotAllowedError {
	for _, form := range []struct{ mark, action string }{
		{"Publish to ", publishTo}, {"Subscription to ", subscribeTo},
	} {
		_, rest, ok := strings.Cut(text, form.mark)
		if !ok {
			continue
		}
		rest = strings.TrimPrefix(rest, `"`)
		if end := strings.IndexAny(rest, `" `); end >= 0 {
			rest = rest[:end]
		}
		return &NotAllowedError{Action: form.action, Subject: rest}
	}
	return nil
}

// guard runs a call that talks to the broker on the subject and ends it early if
// the broker does not allow that.
func (c *Conn) guard(ctx context.Context, subject string, call func(context.Context) error) error {
	w, done := c.watch(func(s string) bool { return s == subject })
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() { // ends with this call
		defer close(ended)
		select {
		case err := <-w.denied:
			cancel(err)
		case <-stop:
		}
	}()
	err := call(ctx)
	close(stop)
	<-ended
	var denied *NotAllowedError
	if err != nil && errors.As(context.Cause(ctx), &denied) {
		return denied
	}
	return err
}

// request sends one request and returns the answer.
func (c *Conn) request(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var answer *nats.Msg
	err := c.guard(ctx, msg.Subject, func(ctx context.Context) (err error) {
		answer, err = c.nc.RequestMsgWithContext(ctx, msg)
		return err
	})
	if err != nil {
		var denied *NotAllowedError
		if errors.As(err, &denied) {
			return nil, err
		}
		return nil, brokerError(err)
	}
	return answer, nil
}
