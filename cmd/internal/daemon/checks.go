package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

// Checks are those of every node, for `vaultmesh doctor`. The clock is time.Now but
// for tests.
func Checks(clock func() time.Time) []Check {
	return []Check{
		{"configuration", func(_ context.Context, x Examined) (string, []Finding) {
			return "it is consistent", findings(x.Config.Check())
		}},
		{"data directory", func(_ context.Context, x Examined) (string, []Finding) {
			return x.Config.Data + " and the secrets in it are yours alone", CheckDir(x.Config.Data)
		}},
		{"node", checkNode},
		{"credentials", checkCreds},
		{"clock", func(_ context.Context, x Examined) (string, []Finding) { return checkClock(x.Config.Data, clock()) }},
		{"disk", checkDisk},
		{"broker", checkBroker},
		{"http", checkHTTP},
		{"readiness", checkReady},
	}
}

// findings makes one finding of an error, none of nil.
func findings(err error, mend ...string) []Finding {
	if err == nil {
		return nil
	}
	return []Finding{{What: err.Error(), Mend: mendOf(err, mend...)}}
}

const noNode = "no node runs here, so there is nothing to ask"

// held reports whether a process has the lock of the directory.
func held(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, LockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()                         // and with it our lock
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) // does not keep a node out for longer than this
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

func checkNode(_ context.Context, x Examined) (string, []Finding) {
	if x.Config.Node != "" {
		if x.Running {
			return "the node of --node answers", nil
		}
		return "", []Finding{{"the node of --node does not answer", "start it, or correct --node"}}
	}
	dir := x.Config.Data
	locked, err := held(dir)
	if err != nil {
		return "", findings(err, "make "+LockFile+" readable for you")
	}
	httpURL, _, _, pid, err := ReadNodeFile(dir)
	switch {
	case locked && x.Running && err == nil:
		return fmt.Sprintf("process %d serves %s", pid, httpURL), nil
	case locked && x.Running:
		return "", findings(fmt.Errorf("a node answers, but node.json: %w", err), "restart the node")
	case locked && err == nil:
		return "", []Finding{{fmt.Sprintf("process %d holds the lock and does not answer on its socket", pid), "see its log, then stop it and start it again"}}
	case locked:
		return "a command works on the directory just now, or a node is starting", nil
	case err == nil:
		return "", []Finding{{fmt.Sprintf("the node of process %d ended without cleaning up: it crashed or was killed", pid), "start it again with vaultmesh up; it recovers by itself"}}
	}
	return noNode, nil
}

func checkCreds(_ context.Context, x Examined) (string, []Finding) {
	dir := filepath.Join(x.Config.Data, CredsDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "none yet: the first start makes them", nil
	}
	known, err := loadCredentials(dir, x.Config.Tokens)
	if err != nil {
		return "", findings(err, "correct or remove that file")
	}
	var out []Finding
	now := time.Now()
	for _, c := range known {
		if !c.Expires.IsZero() && now.After(c.Expires) {
			out = append(out, Finding{fmt.Sprintf("the credentials %s expired at %s", c.Name, c.Expires.Format(time.RFC3339)), fmt.Sprintf("remove creds/%s.*, and make new ones with vaultmesh creds add", c.Name)})
		}
	}
	for _, g := range standing {
		if _, err := os.Stat(filepath.Join(dir, g.Name+".token")); err != nil {
			out = append(out, Finding{"creds/" + g.Name + ".token is missing", "restart the node, which makes it again"})
		}
	}
	return fmt.Sprintf("%d tokens are accepted", len(known)), out
}

// checkClock compares the clock with the times of files, which only a clock that was
// further on can have written.
func checkClock(dir string, now time.Time) (string, []Finding) {
	const slack = 2 * time.Minute
	if now.Year() < 2025 {
		return "", []Finding{{"the clock says " + now.UTC().Format(time.RFC3339), "set the clock, with NTP if you can"}}
	}
	var newest time.Time
	var which string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // checked elsewhere
		}
		if info, err := e.Info(); err == nil && info.ModTime().After(newest) {
			newest, which = info.ModTime(), path
		}
		return nil
	})
	if err != nil {
		return "", findings(err, "make the data directory readable for you")
	}
	if newest.After(now.Add(slack)) {
		return "", []Finding{{fmt.Sprintf("the clock is %s behind %s", newest.Sub(now).Round(time.Second), which), "set the clock, with NTP if you can; order and root of the log do not depend on it, times do"}}
	}
	return "it is not behind any file", nil
}

func checkDisk(_ context.Context, x Examined) (string, []Finding) {
	dir := x.Config.Data
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	free, err := diskFree(dir)
	if err != nil {
		return "", findings(err, "make the data directory readable for you")
	}
	if free < int64(x.Config.Reserve) {
		return "", []Finding{{fmt.Sprintf("%s free, less than the reserve of %s", sizeText(free), x.Config.Reserve), "free space before intake stops, or move the data directory to a larger disk"}}
	}
	return fmt.Sprintf("%s free, the reserve is %s", sizeText(free), x.Config.Reserve), nil
}

func checkBroker(ctx context.Context, x Examined) (string, []Finding) {
	if !x.Running || x.Config.Node != "" {
		return noNode, nil
	}
	_, natsURL, _, _, err := ReadNodeFile(x.Config.Data)
	if err != nil {
		return "", findings(err, "restart the node")
	}
	o := bus.Options{URLs: []string{natsURL}, Name: "doctor", CredsFile: filepath.Join(x.Config.Data, CredsDir, "admin.creds")}
	if len(x.Config.Cluster.NATS) > 0 {
		o.CredsFile, o.CAFile = x.Config.Cluster.Creds, x.Config.Cluster.CA
	} else if x.Config.TLSCert != "" {
		o.CAFile = x.Config.TLSCert
	}
	conn, err := bus.Connect(ctx, o)
	if err != nil {
		return "", findings(err, "see the node's log, and check that nothing stands between here and "+natsURL)
	}
	defer conn.Close()
	info, err := conn.JetStream().AccountInfo(ctx)
	if err != nil {
		return "", findings(fmt.Errorf("JetStream at %s: %w", natsURL, err), "enable JetStream on the broker")
	}
	return fmt.Sprintf("%s answers, with %d streams holding %s", natsURL, info.Streams, sizeText(int64(info.Store))), nil
}

func checkHTTP(ctx context.Context, x Examined) (string, []Finding) {
	if !x.Running || x.Config.Node != "" {
		return noNode, nil
	}
	raw, _, _, _, err := ReadNodeFile(x.Config.Data)
	if err != nil {
		return "", findings(err, "restart the node")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", findings(err, "restart the node")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", findings(err, "restart the node")
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", findings(err, "see the node's log, and look for a firewall on this machine")
	}
	return raw + " accepts connections", findings(conn.Close())
}

func checkReady(ctx context.Context, x Examined) (string, []Finding) {
	if !x.Running {
		return noNode, nil
	}
	r, err := x.Client.Request(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return "", findings(err)
	}
	resp, err := x.Client.HTTP.Do(r) // 503 carries the answer, too
	if err != nil {
		return "", findings(err, "see the node's log")
	}
	defer func() { _ = resp.Body.Close() }()
	checks, err := readyIn(resp.Body)
	if err != nil {
		return "", findings(err, "check that --node is the address of a VaultMesh node")
	}
	var out []Finding
	for name, says := range checks {
		if says != "ok" {
			out = append(out, Finding{name + ": " + says, "see the node's log"})
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.What, b.What) })
	return fmt.Sprintf("%d parts work", len(checks)), out
}
