package eventstest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// complaints stands in for a test, to see whether it would fail.
type complaints struct {
	testing.TB
	n int
}

func (c *complaints) Errorf(string, ...any) { c.n++ }

func (c *complaints) Failed() bool { return c.n > 0 }

// TestOracle gives the mutations a typed check that lies in one way, and expects
// them to notice.
func TestOracle(t *testing.T) {
	s := load(t, Subject{Schema: "envelope/envelope.v1.json"})
	honest := func(data []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return s.compiled.Validate(v)
	}
	for name, lie := range map[string]string{
		"none":                     "",
		"accepts null":             `"subject":null`,
		"accepts an empty string":  `"subject":""`,
		"accepts another type":     `"subject":true`,
		"accepts a long name":      `"subject":"` + strings.Repeat("a", 129) + `"`,
		"refuses a long name":      `"subject":"` + strings.Repeat("é", 128) + `"`,
		"accepts a wrong name":     `"Extra":"x"`,
		"accepts a wrong time":     `"time":"2100-02-29T00:00:00Z"`,
		"refuses a right time":     `"time":"2028-02-29T00:00:00Z"`,
		"accepts upper-case hex":   `"vmprivate":"SHA256:`,
		"accepts a control":        `"id":"\u0000`,
		"accepts another constant": `"specversion":"1.1"`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.Check = func(data []byte) error {
				err := honest(data)
				switch {
				case lie == "" || !bytes.Contains(data, []byte(lie)):
					return err
				case err == nil:
					return errors.New("a lie")
				}
				return nil
			}
			c := &complaints{TB: t}
			s.mutate(c)
			if (c.n > 0) != (lie != "") {
				t.Errorf("%d mutations noticed", c.n)
			}
		})
	}
}
