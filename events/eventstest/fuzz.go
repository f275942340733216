package eventstest

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzSchema lets the fuzzer put any JSON at any place of any example: data
// picks the example and the place, value is the JSON. When value is not JSON it
// is put there as a string.
func FuzzSchema(f *testing.F, subjects []Subject) {
	loaded := make([]schema, 0, len(subjects))
	for i, s := range subjects {
		loaded = append(loaded, load(f, s))
		f.Add(uint8(i), uint8(0), uint8(1), []byte("null"))
		f.Add(uint8(i), uint8(0), uint8(2), []byte(`""`))
	}
	f.Fuzz(func(t *testing.T, subject, example, at uint8, value []byte) {
		s := loaded[int(subject)%len(loaded)]
		v := decode(t, s.examples[int(example)%len(s.examples)])
		all := places(v, s.doc, nil)
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var with any
		if err := d.Decode(&with); err != nil {
			with = string(value)
		}
		s.agree(t, "fuzzed", put(v, all[int(at)%len(all)].path, with))
	})
}

// BenchmarkCheck measures the typed verdict on the last example of each subject.
func BenchmarkCheck(b *testing.B, subjects []Subject) {
	for _, s := range subjects {
		sch := load(b, s)
		data := sch.examples[len(sch.examples)-1]
		b.Run(s.Schema, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := s.Check(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
