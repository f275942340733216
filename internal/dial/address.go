package dial

import (
	"fmt"
	"net/netip"
)

// Addresses that nobody may reach by a configured URL: what clouds keep their
// metadata on, what is not a host, and forms that hide another address.
var never = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where clouds keep instance metadata"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "AWS instance metadata"},
	{netip.MustParsePrefix("fd20:ce::/32"), "Google Cloud instance metadata"},
	{netip.MustParsePrefix("100.100.100.200/32"), "Alibaba Cloud instance metadata"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the Azure host"},
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4 in the mapped form"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "IPv4 in the translated form"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard only"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// Addresses inside, for URLs of the operator only.
var inside = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared (carrier-grade NAT)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
}

// Check returns an error that wraps ErrRefused unless the address may be dialled;
// operator allows the addresses inside.
func Check(ip netip.Addr, operator bool) error {
	if !ip.IsValid() {
		return fmt.Errorf("%w: no address", ErrRefused)
	}
	if ip.Zone() != "" {
		return fmt.Errorf("%w: %s is bound to an interface", ErrRefused, ip)
	}
	if ip == netip.IPv6Loopback() { // also in ::/96
		if operator {
			return nil
		}
		return fmt.Errorf("%w: %s is loopback; only the operator of the node may allow it", ErrRefused, ip)
	}
	for _, n := range never {
		if n.prefix.Contains(ip) {
			return fmt.Errorf("%w: %s is %s", ErrRefused, ip, n.what)
		}
	}
	if operator {
		return nil
	}
	for _, n := range inside {
		if n.prefix.Contains(ip) {
			return fmt.Errorf("%w: %s is %s; only the operator of the node may allow it", ErrRefused, ip, n.what)
		}
	}
	return nil
}
