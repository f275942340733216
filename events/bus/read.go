package bus

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Message is one stored message of a stream. Data and Header are the reader's
// own: they stay valid, and must not be changed if they are shared.
type Message struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when the broker stored it
	Header   map[string][]string
	Data     []byte
}

// Message reads one message from the stream's leader, or ErrNoMessage. A direct get
// could be answered by a replica that is behind.
func (c *Conn) Message(ctx context.Context, stream string, sequence uint64) (Message, error) {
	m, err := c.get(ctx, stream, map[string]any{"seq": sequence})
	if err != nil {
		return m, fmt.Errorf("read message %d of %s: %w", sequence, stream, err)
	}
	return m, nil
}

// LastFor reads the last message of a subject from the stream's leader, or
// ErrNoMessage.
func (c *Conn) LastFor(ctx context.Context, stream, subject string) (Message, error) {
	m, err := c.get(ctx, stream, map[string]any{"last_by_subj": subject})
	if err != nil {
		return m, fmt.Errorf("read the last message of %s in %s: %w", subject, stream, err)
	}
	return m, nil
}

func (c *Conn) get(ctx context.Context, stream string, what map[string]any) (Message, error) {
	body, err := json.Marshal(what)
	if err != nil {
		return Message{}, err
	}
	answer, err := c.request(ctx, &nats.Msg{Subject: c.api + "STREAM.MSG.GET." + stream, Data: body})
	if err != nil {
		return Message{}, err
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if r.Error != nil {
		return Message{}, brokerError(r.Error)
	}
	if r.Message == nil {
		return Message{}, fmt.Errorf("%w: an answer without a message", ErrUnavailable)
	}
	header, err := parseHeader(r.Message.Header)
	if err != nil {
		return Message{}, err
	}
	return Message{r.Message.Subject, r.Message.Sequence, r.Message.Time, header, r.Message.Data}, nil
}

// parseHeader reads a header block "NATS/1.0\r\nName: value\r\n...". Names are kept
// as they are, as NATS does.
func parseHeader(b []byte) (map[string][]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(string(b))))
	if _, err := r.ReadLine(); err != nil {
		return nil, fmt.Errorf("read a message's header: %w", err)
	}
	header := map[string][]string{}
	for {
		line, err := r.ReadLine()
		if err != nil || line == "" {
			return header, nil //nolint:nilerr // the end of the header
		}
		name, value, _ := strings.Cut(line, ":")
		header[name] = append(header[name], strings.TrimSpace(value))
	}
}

// CompareAndSet publishes on a subject if the subject's last sequence is the given
// one, 0 for none, and returns the new one. ErrWrongLast means that another was
// first. ErrAmbiguous means that no answer came: the message may have been stored,
// so read it back with LastFor and compare.
func (c *Conn) CompareAndSet(ctx context.Context, subject string, last uint64, data []byte, header map[string][]string) (uint64, error) {
	sequence, err := c.compareAndSet(ctx, subject, last, data, header)
	if err != nil {
		return 0, fmt.Errorf("compare-and-set %s after %d: %w", subject, last, err)
	}
	return sequence, nil
}

func (c *Conn) compareAndSet(ctx context.Context, subject string, last uint64, data []byte, header map[string][]string) (uint64, error) {
	msg := nats.NewMsg(subject)
	msg.Data = data
	for name, values := range header {
		msg.Header[name] = values
	}
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(last, 10)}
	answer, err := c.request(ctx, msg)
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, ErrNotAllowed), errors.Is(err, ErrTooLarge), errors.Is(err, ErrClosed):
		return 0, err // never sent, or refused before it was stored
	default:
		return 0, fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	var ack pubAck
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error == nil && ack.Sequence == 0 {
		return 0, fmt.Errorf("%w: an answer that is not JetStream's", ErrAmbiguous)
	}
	if ack.Error != nil {
		return 0, apiError(ack.Error.Code, ack.Error.Status, ack.Error.Text)
	}
	return ack.Sequence, nil
}
