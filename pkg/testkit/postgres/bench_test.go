package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkCluster is what a test pays for a cluster of its own, by part.
func BenchmarkCluster(b *testing.B) {
	ctx := b.Context()
	spent := map[string]time.Duration{}
	timed := func(what string, call func() error) {
		begun := time.Now()
		require.NoError(b, call())
		spent[what] += time.Since(begun)
	}
	for b.Loop() {
		var binaries string
		var c *Cluster
		timed("find", func() (err error) { binaries, err = provide(ctx, thisMachine(), false); return err })
		timed("create", func() (err error) { c, err = startCluster(ctx, binaries, options{}); return err })
		timed("kill", c.Kill)
		timed("start", c.Start)
		timed("stop", c.Stop)
		timed("remove", c.close)
	}
	for what, d := range spent {
		b.ReportMetric(d.Seconds()*1000/float64(b.N), what+"-ms")
	}
}

// BenchmarkDatabase is what a test pays for a database.
func BenchmarkDatabase(b *testing.B) {
	ctx := b.Context()
	s, err := sharedServer()
	require.NoError(b, err)
	for b.Loop() {
		db, err := s.create(ctx)
		require.NoError(b, err)
		require.NoError(b, s.drop(ctx, db.name))
	}
}
