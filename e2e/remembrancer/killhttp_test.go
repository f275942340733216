package remembrancer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// TestFaultKillOverHTTP kills the node under clients that repeat a write with the
// same key until it is answered. Each stands in the log once, where the answer
// says, and every checkpoint that anybody saw is of the log that is there in the
// end.
func TestFaultKillOverHTTP(t *testing.T) {
	kills := 10
	if testing.Short() {
		kills = 2
	}
	if os.Getenv("VAULTMESH_FAULTS") == "full" {
		kills = 50
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d repeats the moments of the kills", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	httpAddr, natsAddr := strings.TrimPrefix(n.HTTP, "http://"), strings.TrimPrefix(n.NATS, "nats://")
	l := startLoad(t, token(t, data, "producer"), 8, n.HTTP)
	for range kills {
		l.more(t, 1, time.Duration(rng.IntN(400))*time.Millisecond)
		n.kill()
		n = start(t, data, httpAddr, natsAddr)
	}
	l.more(t, 100, 300*time.Millisecond)
	l.check(t, n)
	if out, errs, code := command(t, data, "remembrancer", "verify-audit", "--data", data); code != 0 {
		t.Errorf("audit: exit %d\n%s%s", code, out, errs)
	}
}
