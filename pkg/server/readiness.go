package server

import (
	"context"
	"errors"
	"sync"
	"time"
)

// readinessTimeout bounds one round of checks; a check that takes longer is
// not ready.
const readinessTimeout = 2 * time.Second

// Readiness gathers why a process cannot serve now. Safe for concurrent use.
type Readiness struct {
	mu       sync.Mutex
	checks   []readinessCheck
	draining bool
}

type readinessCheck struct {
	name  string
	check func(context.Context) error
}

// Report is one round of checks.
type Report struct {
	// Ready is whether all passed.
	Ready bool `json:"ready"`
	// Checks in the order in which they were added.
	Checks []CheckResult `json:"checks"`
}

// CheckResult is what one check said.
type CheckResult struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// Reason why not, or what it lacks although it serves.
	Reason string `json:"reason,omitempty"`
}

// DegradedError is a check's answer for a part that serves, but not all that it
// should: the process stays in the routing, and the report says what is wrong.
type DegradedError struct{ Err error }

func (d *DegradedError) Error() string { return d.Err.Error() }

// Unwrap gives what is wrong.
func (d *DegradedError) Unwrap() error { return d.Err }

// Add adds a check: nil while the part can serve, else why it cannot. It must
// be cheap, since anybody may ask, and return with its context.
func (r *Readiness) Add(name string, check func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, readinessCheck{name: name, check: check})
}

// Drain makes the process not ready for good: it is stopping.
func (r *Readiness) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// Report runs all checks.
func (r *Readiness) Report(ctx context.Context) Report {
	r.mu.Lock()
	checks, draining := r.checks[:len(r.checks):len(r.checks)], r.draining
	r.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, readinessTimeout)
	defer cancel()
	report := Report{Ready: true, Checks: make([]CheckResult, 0, len(checks)+1)}
	if draining {
		report.Ready = false
		report.Checks = append(report.Checks, CheckResult{Name: "process", Reason: "stopping"})
	}
	for _, c := range checks {
		result := CheckResult{Name: c.name, Ready: true}
		if err := c.check(ctx); err != nil {
			result.Reason = err.Error()
			if _, degraded := errors.AsType[*DegradedError](err); !degraded {
				result.Ready, report.Ready = false, false
			}
		}
		report.Checks = append(report.Checks, result)
	}
	return report
}
