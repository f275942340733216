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
	deny     func(*NotAllowedError) // must not block
}

// watch makes violations on subjects end a call. The caller calls the returned
// function when it is done, so that the table is bounded by the calls in flight.
func (c *Conn) watch(concerns func(subject string) bool, deny func(*NotAllowedError)) (done func()) {
	w := &wait{concerns, deny}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits[w] = struct{}{}
	return func() {
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
	var concerned []*wait
	c.mu.Lock()
	for w := range c.waits {
		if all || w.concerns(denied.Subject) {
			concerned = append(concerned, w)
		}
	}
	c.mu.Unlock()
	for _, w := range concerned {
		w.deny(denied)
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer c.watch(func(s string) bool { return s == subject }, func(e *NotAllowedError) { cancel(e) })()
	err := call(ctx)
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
