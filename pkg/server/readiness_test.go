package server_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/server"
)

func TestADegradedPartStaysInTheRouting(t *testing.T) {
	t.Parallel()
	var r server.Readiness
	r.Add("halted", func(context.Context) error { return &server.DegradedError{Err: errors.New("halted at 7")} })
	require.Equal(t, server.Report{Ready: true, Checks: []server.CheckResult{{Name: "halted", Ready: true, Reason: "halted at 7"}}}, r.Report(t.Context()))
	r.Add("away", func(context.Context) error { return errors.New("away") })
	report := r.Report(t.Context())
	require.False(t, report.Ready)
	require.Equal(t, server.CheckResult{Name: "away", Reason: "away"}, report.Checks[1])
}
