package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// importReport tells how an import comes along.
type importReport struct {
	app      *App
	what     string // is imported, for example interactions
	bad      string // is counted as a problem, for example bad lines
	maxShown int64
	began    time.Time

	total    int64        // bytes of all files; 0 where one of them has no size
	read     atomic.Int64 // bytes of the files so far
	done     atomic.Int64 // of what, answered
	problems int64        // shown or not; guarded by mu

	mu    sync.Mutex
	drawn bool // a progress line stands on the terminal
}

// How often progress is shown, to people and to logs.
const (
	progressTerminal = 500 * time.Millisecond
	progressLog      = 10 * time.Second
)

// measure adds up the files' sizes, those in folders too, for the time left.
func (r *importReport) measure(files []string) {
	for _, name := range files {
		info, err := os.Stat(name)
		if name == "-" || err != nil || !info.IsDir() && !info.Mode().IsRegular() {
			r.total = 0
			return
		}
		if !info.IsDir() {
			r.total += info.Size()
			continue
		}
		// What cannot be read is told when it is its turn.
		_ = filepath.WalkDir(name, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					r.total += info.Size()
				}
			}
			return nil
		})
	}
}

// counted counts what is read of the files as they are.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// ended says what was not shown, and how the import ended.
func (r *importReport) ended(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if hidden := r.problems - r.maxShown; hidden > 0 {
		r.app.complain("%d more %s; --max-errors shows more", hidden, r.bad)
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; importing the same files again goes on")
	}
	return err
}

// problem reports a line or a mail, up to as many as are to be shown.
func (r *importReport) problem(at fmt.Stringer, text string) {
	r.mu.Lock()
	r.problems++
	show := r.problems <= r.maxShown
	r.mu.Unlock()
	if show {
		r.say("%s: %s", at, clean(text))
	}
}

// say writes a line above the progress.
func (r *importReport) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
	r.app.complain(format, args...)
}

// erase takes the progress line off the terminal.
func (r *importReport) erase() {
	if r.drawn {
		_, _ = io.WriteString(r.app.Stderr, "\r\x1b[K") // nobody to tell where that fails
		r.drawn = false
	}
}

// progress shows how far it has come until it is stopped.
func (r *importReport) progress() (stop func()) {
	every := progressLog
	if r.app.Terminal {
		every = progressTerminal
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				r.draw()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.erase()
	}
}

func (r *importReport) draw() {
	took := time.Since(r.began)
	text := progressLine(r.what, r.done.Load(), r.read.Load(), r.total, took)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.app.Terminal {
		r.app.complain("%s", text)
		return
	}
	r.erase()
	_, _ = io.WriteString(r.app.Stderr, text) // nobody to tell where that fails
	r.drawn = true
}

// progressLine says how many, how fast, and how long it may still take.
func progressLine(what string, done, read, total int64, took time.Duration) string {
	rate := float64(done) / max(took.Seconds(), 1e-3)
	text := fmt.Sprintf("%d %s, %.0f/s", done, what, rate)
	if total > 0 && read > 0 {
		share := min(float64(read)/float64(total), 1)
		left := time.Duration(float64(took) * (1 - share) / share).Round(time.Second)
		text += fmt.Sprintf(", %.0f %%, %s left", 100*share, left)
	}
	return text
}
