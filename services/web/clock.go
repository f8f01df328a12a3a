package web

import (
	"strconv"
	"time"
)

const (
	// minSkew is how far the client's clock, with what the request took on its
	// way, may be off before times are corrected.
	minSkew = 5 * time.Second
	// maxSkew is the most that is believed of a clock. A client whose clock is
	// further off says nothing about time; its times stay as they are.
	maxSkew = 366 * 24 * time.Hour
	// sentSlack is how far an event's time may lie behind its sending and still be of the same clock.
	sentSlack = time.Minute
)

// correct makes of a client's time what it was by our clock: the client said
// when it happened and when it sent it, and we know when it came. It leaves
// alone
//   - what is off by less than minSkew, which the network alone may be, or by
//     more than maxSkew;
//   - what happened after it was sent: the two times are of different clocks;
//   - retries that come late: some clients keep the sentAt of the first attempt.
func correct(said, sent, received time.Time, retry bool) (at time.Time, corrected bool) {
	if sent.IsZero() {
		return said, false
	}
	skew := received.Sub(sent)
	if skew.Abs() <= minSkew || skew.Abs() > maxSkew || said.After(sent.Add(sentSlack)) || (retry && skew > 0) {
		return said, false
	}
	return said.Add(skew), true
}

// Times come as ISO 8601 with a zone; clients of old ones without a zone (UTC
// is meant), or as a number of milliseconds or seconds since 1970.
var timeLayouts = []string{
	time.RFC3339Nano,
	"2006-01-02T15:04:05.999999999Z0700",
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999",
	"2006-01-02",
}

const (
	// maxTimeText is longer than any layout.
	maxTimeText = 64
	// millisFrom tells milliseconds from seconds: as seconds this is the year 5138, as milliseconds 1973.
	millisFrom = 100_000_000_000
	// maxUnixMillis is the year 9999.
	maxUnixMillis = 253_402_300_799_999
)

func parseTime(raw string) (time.Time, bool) {
	if isNumber(raw) {
		return parseUnix(raw)
	}
	if !isString(raw) || len(raw) > maxTimeText {
		return time.Time{}, false
	}
	text := unquote(raw)
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func parseUnix(raw string) (time.Time, bool) {
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(raw, 64)
		if err != nil || f > maxUnixMillis || f < -maxUnixMillis {
			return time.Time{}, false
		}
		if f < millisFrom && f > -millisFrom {
			return time.UnixMicro(int64(f * 1e6)).UTC(), true
		}
		return time.UnixMilli(int64(f)).UTC(), true
	}
	switch {
	case n > maxUnixMillis || n < -maxUnixMillis:
		return time.Time{}, false
	case n < millisFrom && n > -millisFrom:
		return time.Unix(n, 0).UTC(), true
	default:
		return time.UnixMilli(n).UTC(), true
	}
}
