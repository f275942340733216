package proof

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ReceiptHeader is the first line of a receipt note, version 1. Our log keys
// sign two kinds of note, and the first line tells them apart: in a checkpoint
// it is the origin, and CheckOrigin refuses one that begins like this header, so
// that neither note can ever be read as the other.
const ReceiptHeader = "vaultmesh.cloud/receipt/v1"

// MaxReceiptNote is the largest receipt note in bytes: one bus message.
const MaxReceiptNote = 512<<10 - 1

// Bounds of fold-v1 for what a receipt names, in bytes.
const (
	maxEventID  = 128
	maxProducer = 64
)

// A ReceiptItem says that one event stands in the log.
type ReceiptItem struct {
	Index   uint64 // of its leaf, below the batch's Size
	Leaf    Hash   // RFC 6962 hash of the canonical event
	EventID string // 1 to 128 printable ASCII bytes
}

// A ReceiptBatch is the log's signed promise to one producer: these events stand
// at these leaves below this root. Its note's text is
//
//	vaultmesh.cloud/receipt/v1
//	<origin>
//	<producer>
//	<size>
//	<root, base64>
//	<index> <leaf hash, base64> <event id>
//
// with one or more of the last lines, indexes strictly ascending, and exactly
// one signature line, that of the log key named origin. Origin and producer stand
// within the signed text, so that a receipt means nothing to another log's
// producer or to another producer of this log.
type ReceiptBatch struct {
	Origin   string
	Producer string
	Size     uint64 // leaves of the checkpoint that covers them
	Root     Hash   // its root
	Items    []ReceiptItem
}

// SignReceipts returns the signed note. The signer is the log key, named by the
// origin. A batch that does not fit one note is an error: use SplitReceipts.
func SignReceipts(batch ReceiptBatch, signer note.Signer) ([]byte, error) {
	if signer.Name() != batch.Origin {
		return nil, fmt.Errorf("sign receipts of %q with a key named %q: %w", clip(batch.Origin), clip(signer.Name()), ErrOrigin)
	}
	if err := batch.check(); err != nil {
		return nil, fmt.Errorf("sign receipts: %w", err)
	}
	if n := batch.noteSize(); n > MaxReceiptNote {
		return nil, fmt.Errorf("sign receipts: note of %d bytes, the most is %d: %w", n, MaxReceiptNote, ErrMalformed)
	}
	b, err := note.Sign(&note.Note{Text: batch.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign %d receipts of %s: %w", len(batch.Items), batch.Origin, err)
	}
	return b, nil
}

// check applies the rules that the text cannot express by its form.
func (b ReceiptBatch) check() error {
	if err := CheckOrigin(b.Origin); err != nil {
		return err
	}
	if err := checkProducer(b.Producer); err != nil {
		return err
	}
	if b.Size > MaxTreeSize {
		return fmt.Errorf("size %d: %w", b.Size, ErrMalformed)
	}
	if len(b.Items) == 0 {
		return fmt.Errorf("no items: %w", ErrMalformed)
	}
	for i := range b.Items {
		if err := b.checkItem(i); err != nil {
			return err
		}
	}
	return nil
}

func (b ReceiptBatch) checkItem(i int) error {
	it := &b.Items[i]
	switch {
	case it.Index >= b.Size:
		return fmt.Errorf("item %d: index %d in a log of %d: %w", i, it.Index, b.Size, ErrMalformed)
	case i > 0 && it.Index <= b.Items[i-1].Index:
		return fmt.Errorf("item %d: index %d does not ascend: %w", i, it.Index, ErrMalformed)
	case it.EventID == "" || len(it.EventID) > maxEventID || !isVisible(it.EventID):
		return fmt.Errorf("item %d: event id %q: %w", i, clip(it.EventID), ErrMalformed)
	}
	return nil
}

func checkProducer(p string) error {
	if p == "" || len(p) > maxProducer || !isVisible(p) {
		return fmt.Errorf("producer %q: %w", clip(p), ErrMalformed)
	}
	return nil
}

func (b ReceiptBatch) text() string {
	var s strings.Builder
	s.Grow(b.noteSize())
	s.WriteString(ReceiptHeader + "\n" + b.Origin + "\n" + b.Producer + "\n")
	fmt.Fprintf(&s, "%d\n%v\n", b.Size, b.Root)
	var line []byte
	for i := range b.Items {
		line = appendItem(line[:0], &b.Items[i])
		s.Write(line)
	}
	return s.String()
}

// headSize counts the note without its items.
func (b ReceiptBatch) headSize() int {
	return len(ReceiptHeader) + 1 + len(b.Origin) + 1 + len(b.Producer) + 1 +
		digits(b.Size) + 1 + hash64Size + 1 + 1 + sigLineSize + len(b.Origin)
}

func (b ReceiptBatch) noteSize() int {
	n := b.headSize()
	for i := range b.Items {
		n += itemSize(&b.Items[i])
	}
	return n
}

func itemSize(it *ReceiptItem) int {
	return digits(it.Index) + 1 + hash64Size + 1 + len(it.EventID) + 1
}

func digits(n uint64) int { return len(strconv.AppendUint(make([]byte, 0, 20), n, 10)) }

// SplitReceipts cuts a batch into batches whose notes have at most maxBytes
// each, in order; 0 means MaxReceiptNote. They share the items' memory. A single
// item is never refused here, even if maxBytes cannot hold it.
func SplitReceipts(batch ReceiptBatch, maxBytes int) []ReceiptBatch {
	if maxBytes <= 0 || maxBytes > MaxReceiptNote {
		maxBytes = MaxReceiptNote
	}
	var out []ReceiptBatch
	head := batch.headSize()
	for start := 0; start < len(batch.Items); {
		end, n := start, head
		for end < len(batch.Items) {
			if n += itemSize(&batch.Items[end]); n > maxBytes && end > start {
				break
			}
			end++
		}
		part := batch
		part.Items = batch.Items[start:end:end]
		out, start = append(out, part), end
	}
	return out
}

// OpenReceipts checks a receipt note against the log's key and returns what it
// says. The items' ids share one copy of the note's text: clone what is kept for
// long. Which producer it is addressed to is for the caller to compare, or for a
// ReceiptVerifier.
func OpenReceipts(noteBytes []byte, vkey string) (ReceiptBatch, error) {
	text, origin, err := openNote(noteBytes, vkey, MaxReceiptNote)
	if err != nil {
		return ReceiptBatch{}, fmt.Errorf("open receipts: %w", err)
	}
	b, err := parseReceipts(text)
	if err != nil {
		return ReceiptBatch{}, fmt.Errorf("open receipts: %w", err)
	}
	if b.Origin != origin {
		return ReceiptBatch{}, fmt.Errorf("open receipts: signed by %s for %s: %w", origin, clip(b.Origin), ErrOrigin)
	}
	// Only the log signs receipts, so a further line could only make two
	// spellings of one receipt.
	if want := len(text) + 1 + sigLineSize + len(origin); len(noteBytes) != want {
		return ReceiptBatch{}, fmt.Errorf("open receipts: more than one signature line: %w", ErrMalformed)
	}
	return b, nil
}

func parseReceipts(text string) (ReceiptBatch, error) {
	var b ReceiptBatch
	next := func() (line string, ok bool) { line, text, ok = strings.Cut(text, "\n"); return line, ok }
	if header, ok := next(); !ok || header != ReceiptHeader {
		return b, fmt.Errorf("first line is not %q: %w", ReceiptHeader, ErrMalformed)
	}
	b.Origin, _ = next()
	b.Producer, _ = next()
	size, _ := next()
	root, _ := next()
	var err error
	if b.Size, err = parseDecimal(size, MaxTreeSize); err != nil {
		return b, err
	}
	if err = b.Root.parse(root); err != nil {
		return b, err
	}
	if err = CheckOrigin(b.Origin); err != nil {
		return b, err
	}
	if err = checkProducer(b.Producer); err != nil {
		return b, err
	}
	if text == "" {
		return b, fmt.Errorf("no items: %w", ErrMalformed)
	}
	b.Items = make([]ReceiptItem, strings.Count(text, "\n"))
	for i := range b.Items {
		line, _ := next()
		it := &b.Items[i]
		at := strings.IndexByte(line, ' ')
		if at < 0 || len(line) < at+1+hash64Size+2 || line[at+1+hash64Size] != ' ' {
			return b, fmt.Errorf("item %d: %q is not index, leaf, id: %w", i, clip(line), ErrMalformed)
		}
		if it.Index, err = parseDecimal(line[:at], MaxTreeSize); err != nil {
			return b, err
		}
		if err = it.Leaf.parse(line[at+1 : at+1+hash64Size]); err != nil {
			return b, err
		}
		it.EventID = line[at+1+hash64Size+1:]
		if err = b.checkItem(i); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendItem(line []byte, it *ReceiptItem) []byte {
	line = strconv.AppendUint(line, it.Index, 10)
	line = append(line, ' ')
	line = appendHash(line, it.Leaf)
	line = append(line, ' ')
	line = append(line, it.EventID...)
	return append(line, '\n')
}

// A ReceiptVerifier opens the receipts that one producer gets from one log.
type ReceiptVerifier struct {
	vkey     string
	producer string
}

// NewReceiptVerifier binds the log's key and the producer that the receipts must
// be addressed to.
func NewReceiptVerifier(vkey, producer string) (ReceiptVerifier, error) {
	if _, _, err := ParseVKey(vkey); err != nil {
		return ReceiptVerifier{}, err
	}
	if err := checkProducer(producer); err != nil {
		return ReceiptVerifier{}, err
	}
	return ReceiptVerifier{vkey, producer}, nil
}

// VerifyReceipts returns what the note says, or refuses it: ErrSignature or
// ErrOrigin if it is another log's, ErrAudience if another producer's.
func (v ReceiptVerifier) VerifyReceipts(noteBytes []byte) (ReceiptBatch, error) {
	b, err := OpenReceipts(noteBytes, v.vkey)
	if err != nil {
		return ReceiptBatch{}, err
	}
	if b.Producer != v.producer {
		return ReceiptBatch{}, fmt.Errorf("receipts for %q, this is %q: %w", b.Producer, v.producer, ErrAudience)
	}
	return b, nil
}
