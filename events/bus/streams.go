package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"vaultmesh.cloud/vaultmesh/events"
)

// A Place is where streams are kept: what differs between an embedded server and
// a cluster, and is no promise to others.
type Place struct {
	Replicas int                       // 0 is 1
	MaxBytes func(events.Stream) int64 // of streams whose catalogue entry sets none; nil or 0 is no limit
}

// StreamInfo says what a stream holds.
type StreamInfo struct {
	Name        string
	Created     time.Time // another time means another stream under the same name
	First, Last uint64    // sequences; Last is 0 if nothing was ever stored
	Bytes       int64
	MaxBytes    int64 // 0 is no limit
}

// ErrStreamDiffers means that a stream exists and breaks a promise of the
// catalogue. Nobody may repair that silently: a stream that once allowed deletion
// may have lost messages.
var ErrStreamDiffers = errors.New("the stream differs from its catalogue entry")

// maxHeaders is the room for headers beside the body of a message, in bytes.
const maxHeaders = 4 << 10

// EnsureStreams makes the streams that do not exist and checks those that do. A
// stream that differs in a promise is refused with ErrStreamDiffers, naming each
// difference; limits of the place are updated.
func EnsureStreams(ctx context.Context, c *Conn, streams []events.Stream, place Place) (map[string]StreamInfo, error) {
	infos := make(map[string]StreamInfo, len(streams))
	for _, s := range streams {
		info, err := c.ensureStream(ctx, streamConfig(s, place))
		if err != nil {
			return nil, fmt.Errorf("ensure stream %s: %w", s.Name, err)
		}
		infos[s.Name] = streamInfo(info)
	}
	return infos, nil
}

// StreamInfo asks the stream's leader what it holds.
func (c *Conn) StreamInfo(ctx context.Context, stream string) (StreamInfo, error) {
	info, err := c.lookUp(ctx, stream)
	if err != nil {
		return StreamInfo{}, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	return streamInfo(info), nil
}

func (c *Conn) lookUp(ctx context.Context, stream string) (info *jetstream.StreamInfo, err error) {
	err = c.guard(ctx, c.api+"STREAM.INFO."+stream, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	return info, adminError(err)
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := c.lookUp(ctx, want.Name)
	if errors.Is(err, ErrNoStream) {
		var s jetstream.Stream
		err = c.guard(ctx, c.api+"STREAM.CREATE."+want.Name, func(ctx context.Context) (err error) {
			s, err = c.js.CreateStream(ctx, want)
			return err
		})
		if err == nil {
			info = s.CachedInfo()
		} else if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			info, err = c.lookUp(ctx, want.Name)
		}
	}
	if err != nil {
		return nil, adminError(err)
	}
	if d := differences(want, info.Config); len(d) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrStreamDiffers, strings.Join(d, "; "))
	}
	if info.Config.MaxBytes == want.MaxBytes {
		return info, nil
	}
	update := info.Config
	update.MaxBytes = want.MaxBytes
	err = c.guard(ctx, c.api+"STREAM.UPDATE."+want.Name, func(ctx context.Context) error {
		s, err := c.js.UpdateStream(ctx, update)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	return info, adminError(err)
}

func adminError(err error) error {
	var denied *NotAllowedError
	if err == nil || errors.As(err, &denied) || errors.Is(err, ErrNoStream) {
		return err
	}
	return brokerError(err)
}

func streamConfig(s events.Stream, place Place) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name: s.Name, Description: s.Doc, Subjects: s.Subjects,
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
		MaxAge: s.MaxAge, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas: max(place.Replicas, 1), AllowDirect: s.Log,
		// Nothing relies on message ids; the smallest window bounds what a foreign
		// publisher can make the broker remember.
		Duplicates: 100 * time.Millisecond,
	}
	if s.Memory {
		cfg.Storage = jetstream.MemoryStorage
	}
	if s.Log {
		cfg.Discard, cfg.DenyDelete, cfg.DenyPurge, cfg.AllowAtomicPublish = jetstream.DiscardNew, true, true, true
	}
	if s.MaxMsg > 0 {
		cfg.MaxMsgSize = s.MaxMsg + maxHeaders
	}
	if s.MaxBytes > 0 {
		cfg.MaxBytes = s.MaxBytes
	} else if place.MaxBytes != nil {
		if n := place.MaxBytes(s); n > 0 {
			cfg.MaxBytes = n
		}
	}
	return cfg
}

// differences lists the promises that a stream breaks.
func differences(want, got jetstream.StreamConfig) []string {
	var out []string
	check := func(name string, want, got any) {
		if fmt.Sprint(want) != fmt.Sprint(got) {
			out = append(out, fmt.Sprintf("%s is %v, must be %v", name, got, want))
		}
	}
	check("subjects", slices.Sorted(slices.Values(want.Subjects)), slices.Sorted(slices.Values(got.Subjects)))
	check("storage", want.Storage, got.Storage)
	check("retention", want.Retention, got.Retention)
	check("discard", want.Discard, got.Discard)
	check("deny_delete", want.DenyDelete, got.DenyDelete)
	check("deny_purge", want.DenyPurge, got.DenyPurge)
	check("allow_atomic", want.AllowAtomicPublish, got.AllowAtomicPublish)
	check("allow_direct", want.AllowDirect, got.AllowDirect)
	check("allow_rollup_hdrs", want.AllowRollup, got.AllowRollup)
	check("allow_msg_ttl", want.AllowMsgTTL, got.AllowMsgTTL)
	check("allow_msg_schedules", want.AllowMsgSchedules, got.AllowMsgSchedules)
	check("sealed", want.Sealed, got.Sealed)
	check("no_ack", want.NoAck, got.NoAck)
	check("max_age", want.MaxAge, got.MaxAge)
	check("max_msgs", want.MaxMsgs, got.MaxMsgs)
	check("max_msgs_per_subject", want.MaxMsgsPerSubject, got.MaxMsgsPerSubject)
	check("max_msg_size", want.MaxMsgSize, got.MaxMsgSize)
	check("replicas", want.Replicas, got.Replicas)
	check("persist_mode", want.PersistMode, got.PersistMode)
	check("subject_transform", want.SubjectTransform, got.SubjectTransform)
	check("mirror", want.Mirror, got.Mirror)
	check("sources", len(want.Sources), len(got.Sources))
	return out
}

func streamInfo(i *jetstream.StreamInfo) StreamInfo {
	return StreamInfo{
		Name: i.Config.Name, Created: i.Created, First: i.State.FirstSeq, Last: i.State.LastSeq,
		Bytes: int64(i.State.Bytes), MaxBytes: max(i.Config.MaxBytes, 0),
	}
}
