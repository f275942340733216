package term

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	_ = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	return master, slave
}

func TestBarOnTerminal(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		master, slave := openTerminal(t)
		var seen strings.Builder
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 4096)
			for {
				n, err := master.Read(b)
				seen.Write(b[:n])
				if err != nil || strings.Contains(seen.String(), "the end") {
					return
				}
			}
		}()
		tm := New(slave, slave, func(name string) string {
			if name == "NO_COLOR" {
				return noColor
			}
			return ""
		})
		for _, total := range []int64{0, 100} {
			bar := tm.Bytes("hashing", total)
			bar.Add(10)
			bar.Set(50, 100)
			time.Sleep(200 * time.Millisecond) // the bar redraws by a clock of its own
			bar.Done()
			bar.Done()
		}
		steps := tm.Steps("audit", 3)
		steps.Set(3, 3)
		steps.Done()
		if err := tm.Print(nil, NewTable("x").Cells(Cell{"fine", Good})); err != nil {
			t.Fatal(err)
		}
		tm.Warn("the end")
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("nothing on the terminal")
		}
		out := seen.String()
		if !strings.Contains(out, "hashing") || !strings.Contains(out, "50.0") {
			t.Errorf("no bar in %q", out)
		}
		if colored := strings.Contains(out, "\x1b[32mfine"); colored == (noColor != "") {
			t.Errorf("NO_COLOR=%q: colour is %v in %q", noColor, colored, out)
		}
	}
}
