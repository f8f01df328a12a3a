package cli_test

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// letter is a mail of a customer.
func letter(id, text string) string {
	return "From: Ada <ada@mails.example>\r\nTo: support@parley.local\r\nSubject: Hello\r\nDate: Thu, 12 Mar 2026 10:00:00 +0000\r\nMessage-ID: <" +
		id + ">\r\n\r\n" + text + "\r\n"
}

// mailbox is an mbox of letters.
func mailbox(n int, name string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("From ada@mails.example  Thu Mar 12 10:00:00 2026\n")
		b.WriteString(strings.ReplaceAll(letter(fmt.Sprintf("%s-%d@mails.example", name, i), fmt.Sprintf("Letter %d.\n>From here on it is quoted.", i)), "\r\n", "\n"))
		b.WriteString("\n")
	}
	return b.String()
}

type mailCounts struct {
	Mails, NotMails, Recorded, Duplicates, Refused, Quarantined int
	ConsistencyToken                                            string
}

// imported runs an import and reads its result.
func imported(t *testing.T, want int, args ...string) (mailCounts, string) {
	t.Helper()
	got := run(t, append([]string{"import", "-o", "json"}, args...)...)
	require.Equal(t, want, got.code, got.stderr)
	var counts mailCounts
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &counts), got.stdout)
	return counts, got.stderr
}

func TestImportMails(t *testing.T) {
	t.Parallel()
	addr := start(t)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	write("cur/1:2,S", letter("one@mails.example", "Number one."))
	write("cur/2.eml", strings.ReplaceAll(letter("two@mails.example", "Number two."), "\r\n", "\n"))
	write(".Sent/cur/3", letter("three@mails.example", "Number three."))
	write(".index", "not looked at")
	write("notes/todo.txt", "buy milk\n")
	write("notes/empty", "")
	write("archive.mbox", mailbox(40, "archive"))
	big := write("big.eml", letter("big@mails.example", strings.Repeat("x", 1<<20)))

	first, stderr := imported(t, cli.ExitFailed, dir, "--addr", addr)
	require.Equal(t, mailCounts{Mails: 44, NotMails: 2, Recorded: 44, ConsistencyToken: first.ConsistencyToken}, first)
	require.Contains(t, stderr, filepath.Join("notes", "todo.txt")+": is no mail")
	require.Contains(t, stderr, filepath.Join("notes", "empty")+": is empty")
	again, _ := imported(t, cli.ExitFailed, dir, "--addr", addr)
	require.Equal(t, 44, again.Duplicates)

	// The same mails from elsewhere are the same.
	var packed strings.Builder
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(mailbox(41, "archive")))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	one, _ := imported(t, cli.ExitDone, write("archive.mbox.gz", packed.String()), big, "--addr", addr)
	require.Equal(t, []int{41, 1}, []int{one.Duplicates, one.Recorded})
	got := runWith(t, mailbox(1, "archive"), nil, "import", "-", "--addr", addr)
	require.Equal(t, cli.ExitDone, got.code, got.stderr)
	golden(t, "import_mails", got.stdout)

	// Another mail under the id of one that is there.
	other := write("other.eml", letter("one@mails.example", "Another one."))
	odd, stderr := imported(t, cli.ExitFailed, other, "--addr", addr)
	require.Equal(t, 1, odd.Quarantined)
	require.Contains(t, stderr, "other.eml: in quarantine: content_differs")
	// One that the server does not take, between two that it does.
	huge := write("huge/2.eml", letter("huge@mails.example", strings.Repeat("x", 33<<20)))
	write("huge/1.eml", letter("before@mails.example", "before"))
	write("huge/3.eml", letter("after@mails.example", "after"))
	mixed, stderr := imported(t, cli.ExitFailed, filepath.Dir(huge), "--addr", addr)
	require.Equal(t, []int{3, 2, 1}, []int{mixed.Mails, mixed.Recorded, mixed.Refused})
	require.Contains(t, stderr, "2.eml: refused")

	seen := run(t, "customer", "timeline", "--email", "ada@mails.example", "--addr", addr, "--token", mixed.ConsistencyToken, "-o", "json")
	require.Equal(t, cli.ExitDone, seen.code, seen.stderr)
	require.Contains(t, seen.stdout, "email")

	lines := write("lines.jsonl", `{"type":"page","userId":"u"}`)
	got = run(t, "import", big, lines, "--addr", addr)
	require.Equal(t, cli.ExitUsage, got.code)
	require.Contains(t, got.stderr, "import them apart")
}

// cutter passes connections on, and cuts the first ones after so many bytes.
type cutter struct {
	net.Listener
	to string

	mu   sync.Mutex
	cuts []int64
}

func (c *cutter) serve(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = c.Close() })
	all.Go(func() {
		for {
			in, err := c.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.pass(in) })
		}
	})
}

func (c *cutter) pass(in net.Conn) {
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = in.Close()
		return
	}
	c.mu.Lock()
	most := int64(1 << 40)
	if len(c.cuts) > 0 {
		most, c.cuts = c.cuts[0], c.cuts[1:]
	}
	c.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range []func(){
		func() { _, _ = io.CopyN(out, in, most) },
		func() { _, _ = io.Copy(in, out) },
	} {
		both.Go(func() {
			way()
			_ = in.Close()
			_ = out.Close()
		})
	}
	both.Wait()
}

// TestImportGoesOn cuts the connection under an import twice: every mail is
// there in the end, once.
func TestImportGoesOn(t *testing.T) {
	t.Parallel()
	addr := start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{Listener: lis, to: addr, cuts: []int64{70_000, 20_000}} // behind the first answers: no more are sent before
	c.serve(t)
	file := filepath.Join(t.TempDir(), "inbox")
	require.NoError(t, os.WriteFile(file, []byte(mailbox(500, "cut")), 0o600))
	counts, stderr := imported(t, cli.ExitDone, file, "--addr", lis.Addr().String())
	require.Equal(t, 500, counts.Mails)
	require.Equal(t, 500, counts.Recorded+counts.Duplicates)
	require.Contains(t, stderr, "trying again")
	counts, _ = imported(t, cli.ExitDone, file, "--addr", addr)
	require.Equal(t, 500, counts.Duplicates)
}

// TestImportInterrupted stops an import in its midst and begins it anew.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	addr := start(t)
	all := mailbox(300, "stop")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var stdout, stderr syncBuffer
	app := &cli.App{
		Stdin: r, Stdout: &stdout, Stderr: &stderr, Now: clock, Location: time.UTC, Random: rand.Reader,
	}
	code := make(chan int, 1)
	go func() { code <- app.Run(ctx, []string{"import", "-", "--addr", addr}) }()
	_, err := io.WriteString(w, all[:len(all)/2])
	require.NoError(t, err)
	cancel()
	require.NoError(t, w.CloseWithError(context.Canceled))
	require.Equal(t, cli.ExitFailed, <-code, stdout.String())
	require.Contains(t, stderr.String(), "importing the same files again goes on")

	file := filepath.Join(t.TempDir(), "inbox")
	require.NoError(t, os.WriteFile(file, []byte(all), 0o600))
	counts, _ := imported(t, cli.ExitDone, file, "--addr", addr)
	require.Equal(t, 300, counts.Recorded+counts.Duplicates)
}
