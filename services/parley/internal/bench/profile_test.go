package bench

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/parley/internal/process"
)

// profileSeconds is how long a process under measurement is profiled.
const profileSeconds = 10

// profile starts to take a process's CPU profile, and then what it allocated,
// if PARLEY_BENCH_PROFILES names a folder for it. The function it returns waits
// for the end of that.
func profile(b *testing.B, p *process.Process, name string) (wait func()) {
	b.Helper()
	dir := os.Getenv("PARLEY_BENCH_PROFILES")
	if dir == "" {
		return func() {}
	}
	fetch := func(path, file string) error {
		response, err := http.Get("http://" + p.Addresses.Admin + "/debug/pprof/" + path)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, file), content, 0o600)
	}
	ended := make(chan error, 1)
	go func() {
		err := fetch("profile?seconds="+strconv.Itoa(profileSeconds), name+".pprof")
		ended <- errors.Join(err, fetch("allocs", name+"-allocs.pprof"))
	}()
	return func() { require.NoError(b, <-ended) }
}

// profileSelf is profile for what is measured in the process of the benchmark,
// until the function that it returns is called.
func profileSelf(b *testing.B, name string) (stop func()) {
	b.Helper()
	dir := os.Getenv("PARLEY_BENCH_PROFILES")
	if dir == "" {
		return func() {}
	}
	file, err := os.Create(filepath.Join(dir, name+".pprof"))
	require.NoError(b, err)
	require.NoError(b, pprof.StartCPUProfile(file))
	return func() {
		pprof.StopCPUProfile()
		require.NoError(b, file.Close())
	}
}
