package aurora

import (
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// Bounds of payloads, lengths in code points.
const (
	MaxTreatyID   = 128
	MaxProvider   = 64
	MaxTenant     = 64
	MaxJob        = 128
	MaxReason     = 2 << 10
	MaxSignature  = 16 << 10 // armored
	MaxCandidates = 128
	MaxRegions    = 64
	MaxAttempt    = 1000
	MaxGPUs       = 4096
	MaxHours      = 8784 // of a leap year

	maxCode     = 48
	maxStrategy = 64
	maxRegion   = 64
	maxPrices   = 64
	maxPolicies = 16

	ppm = 1_000_000 // of 1
)

// code checks an identifier that programs compare, such as "h100_80gb": a to z,
// 0 to 9, "_", "-" and ".", beginning with a letter or digit.
func code(c *events.Checker, field, s string, max int) {
	ok := s != "" && len(s) <= max
	for i := 0; ok && i < len(s); i++ {
		b := s[i]
		ok = b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || i > 0 && (b == '_' || b == '-' || b == '.')
	}
	if !ok {
		c.Fail(field, "must be 1 to %d of a-z, 0-9, _, - and ., beginning with a letter or digit", max)
	}
}

func codes(c *events.Checker, field string, list []string, most, max int) {
	c.Integer("number of "+field, int64(len(list)), 0, int64(most))
	if len(list) > most {
		return
	}
	for i, s := range list {
		code(c, field, s, max)
		if slices.Contains(list[:i], s) {
			c.Fail(field, "has an element twice")
		}
	}
}

// date checks a day as RFC 3339 writes it.
func date(c *events.Checker, field, s string) {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		c.Fail(field, "must be a date such as 2026-11-23")
	}
}

func optionalTime(c *events.Checker, field, s string) {
	if s != "" {
		c.Time(field, s)
	}
}

func optionalSHA256(c *events.Checker, field, s string) {
	if s != "" {
		c.SHA256(field, s)
	}
}
