package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	"github.com/parleyhq/parley/services/parley/internal/process"
)

const (
	// mailBytes is the size of a mail.
	mailBytes = 20_000
	// mailConnections send at the same time, each mail behind mail.
	mailConnections = 32
	// mailSenders write them.
	mailSenders = 500
)

// BenchmarkMail sends mails of 20 kB by SMTP, beside the library's server in a
// process of its own that reads them and does nothing.
func BenchmarkMail(b *testing.B) {
	count := max(500, int(20_000*scale))
	p := process.Start(b, b.TempDir(), "--mail-authentication=false")
	customers := customerv1.NewCustomerServiceClient(dial(b, p))
	idle := startIdleChild(b, idleMailVariable+"=1")
	var took, yardstick time.Duration
	for b.Loop() {
		// Turn about, so that both meet the same machine.
		for part := range 4 {
			from, to := part*count/4, (part+1)*count/4
			yardstick += sendMails(b, idle, from, to)
			took += sendMails(b, p.Addresses.SMTP, from, to)
		}
	}
	var recorded int64
	for n := range mailSenders {
		recorded += mailsOf(b, customers, n)
	}
	require.EqualValues(b, count, recorded, "every mail is there once")
	mails, most := perSecond(count, took), perSecond(count, yardstick)
	b.ReportMetric(mails, "mails/s")
	report(row{
		what:   fmt.Sprintf("mails of 20 kB by SMTP, %d connections", mailConnections),
		figure: fmt.Sprintf("%.0f/s", mails), yardstick: fmt.Sprintf("%.0f/s go-smtp doing nothing", most), ratio: ratio(mails / most),
	})
}

// mailsOf waits until a sender's mails are visible that were acknowledged, and
// counts them.
func mailsOf(b *testing.B, customers customerv1.CustomerServiceClient, sender int) int64 {
	b.Helper()
	last, since := int64(-1), time.Now()
	for {
		found, err := customers.LookupCustomer(b.Context(), &customerv1.LookupCustomerRequest{Kind: "email", Value: mailSender(sender)})
		require.NoError(b, err)
		var n int64
		for _, m := range found.GetMatches() {
			n += m.GetCustomer().GetInteractionCount()
		}
		if n != last {
			last, since = n, time.Now()
		}
		// The projection follows within milliseconds; a second without change is the end.
		if sender > 0 || time.Since(since) > time.Second {
			return n
		}
		<-time.After(10 * time.Millisecond)
	}
}

func mailSender(n int) string { return fmt.Sprintf("sender-%d@example.org", n) }

// sendMails sends mails over several connections and gives the time that it took.
func sendMails(b *testing.B, address string, from, to int) time.Duration {
	b.Helper()
	var next atomic.Int64
	next.Store(int64(from))
	var group errgroup.Group
	begun := time.Now()
	for range mailConnections {
		group.Go(func() error {
			client, err := smtp.Dial(address)
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			defer func() { _ = client.Close() }()
			for {
				n := int(next.Add(1)) - 1
				if n >= to {
					return client.Quit()
				}
				if err := client.SendMail(mailSender(n%mailSenders), []string{"help@parley.local"}, bytes.NewReader(mailOf(n))); err != nil {
					return fmt.Errorf("mail %d: %w", n, err)
				}
			}
		})
	}
	require.NoError(b, group.Wait())
	return time.Since(begun)
}

// mailOf is a mail with text in two forms, a quotation, and a small attachment.
func mailOf(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 3))
	words := []string{"order", "the", "parcel", "came", "late", "please", "tell", "me", "when", "it", "will", "be", "there", "thank", "you"}
	var text bytes.Buffer
	for text.Len() < 3_000 {
		text.WriteString(words[r.IntN(len(words))])
		if r.IntN(12) == 0 {
			text.WriteString("\r\n")
		} else {
			text.WriteByte(' ')
		}
	}
	var m bytes.Buffer
	fmt.Fprintf(&m, "From: Sender %d <%s>\r\nTo: help@parley.local\r\nSubject: Order %d\r\nMessage-ID: <bench-%d@example.org>\r\n", n, mailSender(n%mailSenders), n, n)
	fmt.Fprintf(&m, "Date: Mon, 01 Jun 2026 12:%02d:%02d +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=mixed\r\n\r\n", n/60%60, n%60)
	m.WriteString("--mixed\r\nContent-Type: multipart/alternative; boundary=alt\r\n\r\n--alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	m.Write(text.Bytes())
	m.WriteString("\r\n\r\nOn Mon, 1 Jun 2026 at 11:00, Help <help@parley.local> wrote:\r\n> We have it.\r\n> Best regards\r\n")
	m.WriteString("--alt\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>")
	m.Write(text.Bytes())
	m.WriteString("</p></body></html>\r\n--alt--\r\n--mixed\r\nContent-Type: application/pdf; name=bill.pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=bill.pdf\r\n\r\n")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for m.Len() < mailBytes-100 {
		for range 76 {
			m.WriteByte(letters[r.IntN(len(letters))])
		}
		m.WriteString("\r\n")
	}
	m.WriteString("--mixed--\r\n")
	return m.Bytes()
}

// idleMailVariable makes this test binary the SMTP server that does nothing.
const idleMailVariable = "PARLEY_BENCH_IDLE_MAIL"

// serveIdleMail is that server; it ends with its process.
func serveIdleMail() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if _, err := fmt.Fprintln(os.Stdout, listener.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return idleSession{}, nil }))
	server.Domain = "localhost"
	return server.Serve(listener)
}

type idleSession struct{}

func (idleSession) Mail(string, *smtp.MailOptions) error { return nil }
func (idleSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (idleSession) Reset()                               {}
func (idleSession) Logout() error                        { return nil }

func (idleSession) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a mail: %w", err)
	}
	return nil
}
