package bustest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart(t *testing.T) {
	for name, options := range map[string][]Option{"in process": nil, "listening": {Listening(), Synced()}} {
		t.Run(name, func(t *testing.T) {
			b := Start(t, options...)
			if got := b.Send(t, Event(t, "ci", "api", map[string]int{"n": 1}), Event(t, "ci", "api", nil)); got[1] != 2 {
				t.Errorf("sequences %v", got)
			}
		})
	}
}
