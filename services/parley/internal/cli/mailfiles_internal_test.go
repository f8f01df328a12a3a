package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mailsOf reads an mbox.
func mailsOf(t *testing.T, text string) (mails []string, times []time.Time) {
	t.Helper()
	// A small buffer cuts lines into parts.
	m := mbox{r: bufio.NewReaderSize(strings.NewReader(text), 64)}
	for {
		raw, taken, large, err := m.next()
		if errors.Is(err, io.EOF) {
			return mails, times
		}
		require.NoError(t, err)
		require.False(t, large)
		mails, times = append(mails, string(raw)), append(times, taken)
	}
}

func TestMbox(t *testing.T) {
	t.Parallel()
	const from = "From ada@mails.example  Thu Mar 12 10:00:00 2026\n"
	long := strings.Repeat("a long line ", 50)
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"two":            {from + "A: b\n\none\n\n" + from + "A: c\n\ntwo\n\n", []string{"A: b\n\none\n", "A: c\n\ntwo\n\n"}},
		"CRLF":           {strings.ReplaceAll(from+"A: b\n\none\n\n"+from+"A: c\n\ntwo\n", "\n", "\r\n"), []string{"A: b\r\n\r\none\r\n", "A: c\r\n\r\ntwo\r\n"}},
		"quoted":         {from + "A: b\n\n>From me\n>>From you\n> From him\n", []string{"A: b\n\nFrom me\n>From you\n> From him\n"}},
		"a sentence":     {from + "A: b\n\nx\n\nFrom what I know, Thu is fine\n", []string{"A: b\n\nx\n\nFrom what I know, Thu is fine\n"}},
		"no empty line":  {from + "A: b\n\nx\n" + from + "y\n", []string{"A: b\n\nx\n" + from + "y\n"}},
		"long lines":     {from + "A: b\n\n" + long + "\n>From " + long + "\n\n" + from + "A: c\n\n", []string{"A: b\n\n" + long + "\nFrom " + long + "\n", "A: c\n\n"}},
		"no end of line": {from + "A: b\n\nx", []string{"A: b\n\nx"}},
		"only the line":  {from, []string{""}},
		"nothing":        {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mails, times := mailsOf(t, tc.text)
			require.Equal(t, tc.want, mails)
			if len(times) > 0 {
				require.Equal(t, time.Date(2026, 3, 12, 10, 0, 0, 0, time.UTC), times[0])
			}
		})
	}
}

func TestWhatAFileIs(t *testing.T) {
	t.Parallel()
	for head, mail := range map[string]bool{
		"From: a@b\n": true, "\r\nReceived: x\n": true, "\xef\xbb\xbfSubject : x": true, "From a@b Thu Mar 12 10:00:00 2026\n": true, "X-Y:z": true,
		`{"type":"page"}`: false, "": false, "just words": false, "two words: x": false, `"a":`: false, ":": false, "\x00\x01:": false,
	} {
		require.Equal(t, mail, isMbox([]byte(head)) || looksLikeMail([]byte(head)), "%q", head)
	}
}

// FuzzMbox reads whatever bytes as an mbox: it ends, and gives no more than there is.
func FuzzMbox(f *testing.F) {
	for _, s := range []string{"", "From ", "From a Thu Mar 12 10:00:00 2026\n\n\nFrom b Thu Mar 12 10:00:00 2026\n>>From x", "From x\r\n\r\n\r\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := mbox{r: bufio.NewReaderSize(bytes.NewReader(raw), 64)}
		total := 0
		for {
			one, _, _, err := m.next()
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			total += len(one)
		}
		require.LessOrEqual(t, total, len(raw))
	})
}
