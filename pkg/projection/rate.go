package projection

import "time"

// rate measures events per second over the last seconds.
type rate struct {
	since  time.Time
	events int
	last   float64
}

const rateWindow = 2 * time.Second

func (r *rate) add(now time.Time, events int) {
	if r.since.IsZero() {
		r.since = now
	}
	r.events += events
	if d := now.Sub(r.since); d >= rateWindow {
		r.last = float64(r.events) / d.Seconds()
		r.since, r.events = now, 0
	}
}

func (r *rate) perSecond(now time.Time) float64 {
	d := now.Sub(r.since)
	if r.since.IsZero() || d <= 0 {
		return r.last
	}
	if d >= rateWindow || r.last == 0 {
		return float64(r.events) / d.Seconds()
	}
	return r.last
}
