package proof

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func testBatch(n int) ReceiptBatch {
	b := ReceiptBatch{Origin: testOrigin, Producer: "ci", Size: uint64(1000000 + 2*n), Root: LeafHash([]byte("root"))}
	for i := range n {
		b.Items = append(b.Items, ReceiptItem{uint64(1000000 + 2*i), LeafHash(fmt.Append(nil, i)), fmt.Sprintf("0197f5a0-%04x-7000-8000-%012x", i>>16, i)})
	}
	return b
}

func TestReceiptsRoundTrip(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	for _, n := range []int{1, 2, 1000} {
		want := testBatch(n)
		b, err := SignReceipts(want, signer)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != want.noteSize() {
			t.Errorf("%d items: %d bytes, counted %d", n, len(b), want.noteSize())
		}
		got, err := OpenReceipts(b, vkey)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d items: %v", n, err)
		}
	}
}

func TestReceiptVerifierRefusesReplayElsewhere(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	other, otherVKey := testKey(t, "other.example/log", 1)
	mine, err := NewReceiptVerifier(vkey, "ci")
	if err != nil {
		t.Fatal(err)
	}
	batch := testBatch(3)
	b, err := SignReceipts(batch, signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mine.VerifyReceipts(b); err != nil || len(got.Items) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	deploy, _ := NewReceiptVerifier(vkey, "deploy")
	if _, err := deploy.VerifyReceipts(b); !errors.Is(err, ErrAudience) {
		t.Errorf("another producer: %v", err)
	}
	elsewhere, _ := NewReceiptVerifier(otherVKey, "ci")
	if _, err := elsewhere.VerifyReceipts(b); !errors.Is(err, ErrSignature) {
		t.Errorf("another log: %v", err)
	}
	// The other log's key over text that names our log.
	foreign := signText(t, batch.text(), other)
	if _, err := elsewhere.VerifyReceipts(foreign); !errors.Is(err, ErrOrigin) {
		t.Errorf("our receipts under the other log's key: %v", err)
	}
	for _, bad := range [][2]string{{"", "ci"}, {vkey, ""}, {vkey, "a b"}, {vkey, strings.Repeat("a", 65)}} {
		if _, err := NewReceiptVerifier(bad[0], bad[1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("NewReceiptVerifier(%.20q): %v", bad, err)
		}
	}
	if _, err := (ReceiptVerifier{}).VerifyReceipts(b); err == nil {
		t.Error("the zero verifier accepts")
	}
}

// The log key signs checkpoints and receipts; neither may be read as the other.
func TestReceiptIsNoCheckpoint(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	receipts, err := SignReceipts(testBatch(1), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := OpenCheckpoint(receipts, vkey); err == nil {
		t.Errorf("a receipt opens as checkpoint %+v", c)
	}
	if _, err := VerifyCosignatures(receipts, nil); err == nil {
		t.Error("a receipt could be cosigned")
	}
	checkpoint, err := SignCheckpoint(testOrigin, 7, testTree(7).root(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := OpenReceipts(checkpoint, vkey); err == nil {
		t.Errorf("a checkpoint opens as receipts %+v", b)
	}
	// Even a key that is named like the header, and so could sign such a first
	// line as its own origin, is refused.
	if _, _, err := ParseVKey("vaultmesh.cloud/receipt/v1" + vkey[strings.Index(vkey, "+"):]); err == nil {
		t.Error("a log may be named like the receipt header")
	}
}

func TestReceiptRefusals(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	imposter, _ := testKey(t, testOrigin, 2)
	good := testBatch(2).text()
	lines := strings.Split(good, "\n")
	first, second := lines[5], lines[6]
	leaf := strings.Split(first, " ")[1]
	for name, text := range map[string]string{
		"later version":      replace(t, good, "/v1", "/v2"),
		"no items":           strings.Join(lines[:5], "\n") + "\n",
		"only a header":      ReceiptHeader + "\n",
		"head cut":           strings.Join(lines[:4], "\n") + "\n",
		"same index":         replace(t, good, second, "1000000"+second[7:]),
		"descending":         replace(t, good, first+"\n"+second, second+"\n"+first),
		"index at size":      replace(t, good, "1000002 ", "1000004 "),
		"leading zero index": replace(t, good, "1000000 ", "01000000 "),
		"leading zero size":  replace(t, good, "\n1000004\n", "\n01000004\n"),
		"size over 63 bits":  replace(t, good, "\n1000004\n", "\n9223372036854775808\n"),
		"leaf cut":           replace(t, good, leaf, leaf[1:]),
		"leaf spelling":      replace(t, good, leaf, leaf[:43]+"A"),
		"root spelling":      replace(t, good, lines[4], lines[4][:43]+"A"),
		"no id":              replace(t, good, first, first[:strings.LastIndex(first, " ")]),
		"empty id":           replace(t, good, first, first[:strings.LastIndex(first, " ")+1]),
		"id with space":      replace(t, good, "0197f5a0", "0197 5a0"),
		"id not ASCII":       replace(t, good, "0197f5a0", "ünicode"),
		"id too long":        replace(t, good, "0197f5a0", strings.Repeat("x", maxEventID)),
		"two spaces":         replace(t, good, "1000000 ", "1000000  "),
		"empty line":         replace(t, good, first+"\n", first+"\n\n"),
		"producer empty":     replace(t, good, "\nci\n", "\n\n"),
		"producer space":     replace(t, good, "\nci\n", "\nc i\n"),
		"producer long":      replace(t, good, "\nci\n", "\n"+strings.Repeat("c", maxProducer+1)+"\n"),
		"origin empty":       replace(t, good, testOrigin, ""),
		"line after":         good + "x\n",
	} {
		if b, err := OpenReceipts(signText(t, text, signer), vkey); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	for name, c := range map[string]struct {
		note []byte
		want error
	}{
		"imposter":        {signText(t, good, imposter), ErrSignature},
		"two signatures":  {signText(t, good, signer, imposter), ErrMalformed},
		"unsigned":        {[]byte(good), ErrMalformed},
		"too long":        {make([]byte, MaxReceiptNote+1), ErrMalformed},
		"another log's":   {signText(t, replace(t, good, testOrigin, "other.example/log"), signer), ErrOrigin},
		"text after sign": {[]byte(replace(t, string(signText(t, good, signer)), "1000002 ", "1000003 ")), ErrSignature},
	} {
		if b, err := OpenReceipts(c.note, vkey); !errors.Is(err, c.want) {
			t.Errorf("%s: %d items, %v; want %v", name, len(b.Items), err, c.want)
		}
	}
	other, _ := testKey(t, "other.example/log", 1)
	edit := func(f func(*ReceiptBatch)) ReceiptBatch { b := testBatch(2); f(&b); return b }
	for name, c := range map[string]struct {
		batch  ReceiptBatch
		signer note.Signer
		want   error
	}{
		"another log's key": {testBatch(1), other, ErrOrigin},
		"no items":          {edit(func(b *ReceiptBatch) { b.Items = nil }), signer, ErrMalformed},
		"line end in id":    {edit(func(b *ReceiptBatch) { b.Items[0].EventID = "a\nb" }), signer, ErrMalformed},
		"order":             {edit(func(b *ReceiptBatch) { b.Items[0].Index = b.Items[1].Index }), signer, ErrMalformed},
		"producer":          {edit(func(b *ReceiptBatch) { b.Producer = "a\nb" }), signer, ErrMalformed},
		"size":              {edit(func(b *ReceiptBatch) { b.Size = 1 }), signer, ErrMalformed},
		"over one message":  {testBatch(8000), signer, ErrMalformed},
	} {
		if b, err := SignReceipts(c.batch, c.signer); !errors.Is(err, c.want) {
			t.Errorf("sign %s: %d bytes, %v; want %v", name, len(b), err, c.want)
		}
	}
}

func TestSplitReceipts(t *testing.T) {
	signer, _ := testKey(t, testOrigin, 1)
	batch := testBatch(20000)
	for _, most := range []int{0, MaxReceiptNote, 100 << 10, 1000, 1} {
		bound := most
		if bound == 0 {
			bound = MaxReceiptNote
		}
		var items []ReceiptItem
		parts := SplitReceipts(batch, most)
		for i, p := range parts {
			if n := p.noteSize(); n > bound && len(p.Items) > 1 {
				t.Fatalf("part %d of bound %d has %d bytes", i, most, n)
			}
			items = append(items, p.Items...)
		}
		if !reflect.DeepEqual(items, batch.Items) {
			t.Fatalf("bound %d: items lost or changed", most)
		}
		if most != 0 {
			continue
		}
		for _, p := range parts {
			if b, err := SignReceipts(p, signer); err != nil || len(b) >= 512<<10 {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
		}
		if len(parts) > 5 {
			t.Errorf("20000 items in %d notes", len(parts))
		}
	}
	if parts := SplitReceipts(ReceiptBatch{}, 0); parts != nil {
		t.Errorf("nothing gives %d parts", len(parts))
	}
}

func BenchmarkOpenReceipts(b *testing.B) {
	signer, vkey := testKey(b, testOrigin, 1)
	for _, n := range []int{1, 100, 4000} {
		signed, err := SignReceipts(testBatch(n), signer)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := OpenReceipts(signed, vkey); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "receipts/s")
		})
	}
}

func BenchmarkSignReceipts(b *testing.B) {
	signer, _ := testKey(b, testOrigin, 1)
	for _, n := range []int{1, 100, 4000} {
		batch := testBatch(n)
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := SignReceipts(batch, signer); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "receipts/s")
		})
	}
}
