package email_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/bus"
	"github.com/parleyhq/parley/services/email"
)

// certificate makes one for localhost.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.acme.example"}, DNSNames: []string{"mx.acme.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: pool, ServerName: "mx.acme.example", MinVersion: tls.VersionTLS12}
}

func (c *client) startTLS(cfg *tls.Config) {
	c.t.Helper()
	c.do("STARTTLS", "220")
	conn := tls.Client(c.conn, cfg)
	require.NoError(c.t, conn.Handshake())
	c.conn, c.r = conn, bufio.NewReader(conn)
}

func TestSMTPOffersWhatItShould(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server, trusting := certificate(t)
	_, addr := serveSMTP(t, r, email.SMTPConfig{TLS: server})
	c := dialSMTP(t, addr)
	hello := c.hello()
	for _, extension := range []string{"STARTTLS", "SIZE 1048576", "8BITMIME", "SMTPUTF8", "PIPELINING"} {
		require.Contains(t, hello, extension)
	}
	require.NotContains(t, hello, "AUTH")
	c.do("VRFY support", "252")
	c.do("EXPN staff", "502")
	c.do("AUTH PLAIN AAAA", "5")
	// What was said before TLS does not count behind it.
	c.do("MAIL FROM:<eve@customer.example>", "250")
	c.startTLS(trusting)
	c.do("RCPT TO:<support@acme.example>", "5")
	hello = c.do("EHLO client.example", "250")
	require.NotContains(t, hello, "STARTTLS")
	require.Contains(t, hello, "SIZE 1048576")
	c.do("MAIL FROM:<jürgen@müller.example> SMTPUTF8 BODY=8BITMIME SIZE=500", "250")
	c.do("RCPT TO:<support+c-abc123@acme.example>", "250")
	c.do("DATA", "354")
	c.send(strings.ReplaceAll(plain("utf8@customer.example", "Grüße\r\n..zwei Punkte"), "ada@customer.example", "jürgen@müller.example"))
	c.do(".", "250")
	c.do("QUIT", "221")
	events := r.publisher.events("acme")
	require.Len(t, events, 1)
	p := events[0].GetPayload().GetEmailReceived()
	require.Equal(t, "jürgen@müller.example", p.GetFrom()[0].GetAddress())
	require.Equal(t, "jürgen@müller.example", p.GetEnvelopeFrom())
	require.Equal(t, "Grüße\n.zwei Punkte", p.GetText())
	require.Equal(t, "abc123", p.GetAddressConversation())
	require.Equal(t, "support@acme.example", p.GetMailbox())
}

func TestSMTPRequiresTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server, trusting := certificate(t)
	_, addr := serveSMTP(t, r, email.SMTPConfig{TLS: server, RequireTLS: true})
	c := dialSMTP(t, addr)
	c.hello()
	c.do("MAIL FROM:<ada@customer.example>", "530 5.7.0")
	c.startTLS(trusting)
	c.do("EHLO client.example", "250")
	c.envelope()
	c.send(plain("tls@customer.example", "secret"))
	c.do(".", "250")
	// Commands that were slipped in behind STARTTLS, before TLS, are nobody's.
	c = dialSMTP(t, addr)
	c.hello()
	c.send("STARTTLS\r\nMAIL FROM:<eve@customer.example>\r\n")
	require.Contains(t, c.reply(), "220")
	require.Len(t, r.publisher.events("acme"), 1)
}

func TestSMTPGroupsOfCommands(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	c := dialSMTP(t, addr)
	c.hello()
	c.send("MAIL FROM:<>\r\nRCPT TO:<support@acme.example>\r\nRCPT TO:<nobody@elsewhere.example>\r\nRCPT TO:<hello@globex.example>\r\nDATA\r\n")
	for _, want := range []string{"250", "250", "550 5.1.1", "250", "354"} {
		require.Contains(t, c.reply(), want)
	}
	c.send(plain("group@customer.example", "for two") + ".\r\nRSET\r\nNOOP\r\nQUIT\r\n")
	for _, want := range []string{"250", "250", "250", "221"} {
		require.Contains(t, c.reply(), want)
	}
	require.Len(t, r.publisher.events("acme"), 1)
	require.Len(t, r.publisher.events("globex"), 1)
	require.NotEqual(t, r.publisher.events("acme")[0].GetId(), r.publisher.events("globex")[0].GetId())
	require.Empty(t, r.publisher.events("acme")[0].GetPayload().GetEmailReceived().GetEnvelopeFrom())
}

func TestSMTPInChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	c := dialSMTP(t, addr)
	c.hello()
	raw := plain("chunks@customer.example", "one\r\n.\r\ntwo\r\n"+strings.Repeat("long ", 20_000))
	c.do("MAIL FROM:<ada@customer.example>", "250")
	c.do("RCPT TO:<support@acme.example>", "250")
	half := len(raw) / 2
	c.send(fmt.Sprintf("BDAT %d\r\n%s", half, raw[:half]))
	require.Contains(t, c.reply(), "250")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(raw)-half, raw[half:]))
	require.Contains(t, c.reply(), "250")
	p := r.publisher.events("acme")[0].GetPayload().GetEmailReceived()
	require.Equal(t, raw, string(r.blobs.get(p.GetRawBlob())), "kept byte for byte")

	// One that is too large.
	begin := func() {
		c.do("MAIL FROM:<ada@customer.example>", "250")
		c.do("RCPT TO:<support@acme.example>", "250")
	}
	begin()
	c.send("BDAT 1500000 LAST\r\n" + strings.Repeat("x", 1_500_000))
	require.Contains(t, c.reply(), "552 5.3.4")
	c.do("NOOP", "250")
	// One that is given up, with the next one begun in the same breath.
	begin()
	c.send("BDAT 5\r\nabcde")
	require.Contains(t, c.reply(), "250")
	c.send("RSET\r\nMAIL FROM:<ada@customer.example>\r\n")
	require.Contains(t, c.reply(), "250")
	require.Contains(t, c.reply(), "421")
	c.closed()
	require.Len(t, r.publisher.events("acme"), 1)
}

func TestSMTPTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	const limit = 1 << 20
	c := dialSMTP(t, addr)
	c.hello()
	c.do("MAIL FROM:<ada@customer.example> SIZE="+strconv.Itoa(limit+1), "552 5.3.4")
	c.do("MAIL FROM:<ada@customer.example> SIZE=99999999999999", "5")
	c.do("MAIL FROM:<ada@customer.example>", "250")
	c.do("MAIL FROM:<ada@customer.example> SIZE="+strconv.Itoa(limit+1), "552 5.3.4")
	c.do("RSET", "250")

	head := plain("exact@customer.example", "")
	fill := func(n int) string {
		line := strings.Repeat("x", 70) + "\r\n"
		return head + strings.Repeat(line, n/len(line)) + strings.Repeat("y", n%len(line)-2) + "\r\n"
	}
	// Exactly as much as was announced is taken, with and without being said.
	for _, size := range []string{"", " SIZE=" + strconv.Itoa(limit), " SIZE=5"} {
		c.do("MAIL FROM:<ada@customer.example>"+size, "250")
		c.do("RCPT TO:<support@acme.example>", "250")
		c.do("DATA", "354")
		raw := fill(limit - len(head))
		require.Len(t, raw, limit)
		c.send(raw)
		c.do(".", "250")
	}
	require.Len(t, r.publisher.events("acme"), 3)
	// One more is not, and the session goes on.
	for _, over := range []int{1, limit, 2 * limit} {
		c.envelope()
		c.send(fill(limit - len(head) + over))
		c.do(".", "552 5.3.4")
	}
	c.do("NOOP", "250")
	// What never ends is cut off.
	c.envelope()
	line := strings.Repeat("x", 64<<10) + "\r\n"
	for range 200 {
		if _, err := c.conn.Write([]byte(line)); err != nil {
			break
		}
	}
	c.closed()
	require.Len(t, r.publisher.events("acme"), 3)
}

// TestSMTPLargeMailsWaitForEachOther lets one mail take all the room.
func TestSMTPLargeMailsWaitForEachOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *email.Config, _ *email.Deps) { cfg.MaxBytesInFlight = 1<<20 + 128<<10 })
	r.publisher.wait = make(chan struct{})
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	large := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 9000)
	first, second, small := dialSMTP(t, addr), dialSMTP(t, addr), dialSMTP(t, addr)
	for i, c := range []*client{first, second} {
		c.hello()
		c.do("MAIL FROM:<ada@customer.example> SIZE=910000", "250")
		c.do("RCPT TO:<support@acme.example>", "250")
		c.do("DATA", "354")
		c.send(plain(fmt.Sprintf("large%d@customer.example", i), "") + large[:len(large)/2])
	}
	// The first one's end, or the second one's, is not read before the other is done.
	go func() {
		_, _ = second.conn.Write([]byte(large[len(large)/2:] + ".\r\n")) // the answer tells
	}()
	first.send(large[len(large)/2:] + ".\r\n")
	// Small ones need no room.
	small.hello()
	small.envelope()
	small.send(plain("small@customer.example", "small") + ".\r\n")
	close(r.publisher.wait)
	for _, c := range []*client{small, first, second} {
		require.Contains(t, c.reply(), "250")
	}
	require.Len(t, r.publisher.events("acme"), 3)
}

func TestSMTPRecipients(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	c := dialSMTP(t, addr)
	c.hello()
	c.do("RCPT TO:<support@acme.example>", "5")
	c.do("MAIL FROM:<ada@customer.example>", "250")
	c.do("RCPT TO:<somebody@globex.example>", "550 5.1.1")
	c.do("RCPT TO:<support@sub.acme.example>", "550 5.1.1")
	c.do("DATA", "5")
	c.do("RCPT TO:<Anything.At-All+tag@ACME.example>", "250")
	for i := range email.MaxRecipients - 1 {
		c.do(fmt.Sprintf("RCPT TO:<r%d@acme.example>", i), "250")
	}
	c.do("RCPT TO:<one-too-many@acme.example>", "452")
	c.do("DATA", "354")
	c.send(plain("many@customer.example", "to many"))
	c.do(".", "250")
	require.Len(t, r.publisher.events("acme"), 1)
	require.Len(t, r.publisher.events("acme")[0].GetIdentifiers(), 64)
	// Who guesses addresses is shown the door.
	c.do("MAIL FROM:<eve@customer.example>", "250")
	for i := 0; ; i++ {
		c.send(fmt.Sprintf("RCPT TO:<guess%d@globex.example>\r\n", i))
		if got := c.reply(); strings.HasPrefix(got, "421") {
			break
		}
		require.Less(t, i, 100)
	}
	c.closed()
}

func TestSMTPNotNow(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*rig){
		"full":      func(r *rig) { r.publisher.fail(bus.ErrFull) },
		"away":      func(r *rig) { r.publisher.fail(bus.ErrUnavailable) },
		"blobs":     func(r *rig) { r.blobs.err = blob.ErrUnavailable },
		"odd":       func(r *rig) { r.publisher.fail(context.DeadlineExceeded) },
		"too large": func(r *rig) { r.publisher.fail(bus.ErrTooLarge) },
		"one of two": func(r *rig) {
			r.publisher.failFor = "globex"
			r.publisher.fail(bus.ErrUnavailable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			_, addr := serveSMTP(t, r, email.SMTPConfig{})
			breakIt(r)
			c := dialSMTP(t, addr)
			c.hello()
			send := func(want string) {
				c.do("MAIL FROM:<ada@customer.example>", "250")
				c.do("RCPT TO:<support@acme.example>", "250")
				c.do("RCPT TO:<hello@globex.example>", "250")
				c.do("DATA", "354")
				c.send(plain("later@customer.example", "again"))
				c.do(".", want)
			}
			send("451 4.3.0")
			require.Empty(t, r.publisher.events("globex"))
			r.publisher.fail(nil)
			r.blobs.mu.Lock()
			r.blobs.err = nil
			r.blobs.mu.Unlock()
			send("250")
			require.Len(t, r.publisher.events("globex"), 1)
			for _, ev := range r.publisher.events("acme") {
				require.Equal(t, r.publisher.events("acme")[0].GetId(), ev.GetId(), "sent again it is the same event")
				require.Equal(t, r.publisher.events("acme")[0].GetContentDigest(), ev.GetContentDigest())
			}
		})
	}
}

// TestSMTPSmuggling sends ends of mails that other servers may have taken for
// such, or not: a mail ends with CRLF, dot, CRLF and nowhere else.
func TestSMTPSmuggling(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]string{
		"LF . CRLF": "\n.\r\n", "CR . CRLF": "\r.\r\n", "LF . LF": "\n.\n", "CRLF . LF": "\r\n.\n", "CR . CR": "\r.\r",
		"LF . CR": "\n.\r", "CRLF . CR": "\r\n.\rx", "CRLF NUL . CRLF": "\r\n\x00.\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			_, addr := serveSMTP(t, r, email.SMTPConfig{})
			c := dialSMTP(t, addr)
			c.hello()
			c.envelope()
			smuggled := "MAIL FROM:<ceo@acme.example>\r\nRCPT TO:<hello@globex.example>\r\nDATA\r\n" + plain("smuggled@acme.example", "pay")
			c.send(plain("outer@customer.example", "body"+odd+smuggled))
			c.do(".", "250")
			c.do("NOOP", "250")
			require.Empty(t, r.publisher.events("globex"))
			require.Len(t, r.publisher.events("acme"), 1)
			p := r.publisher.events("acme")[0].GetPayload().GetEmailReceived()
			// The library leaves out the CR behind a dot.
			if odd != "\r\n\x00.\r\n" && odd != "\r\n.\rx" {
				require.Contains(t, p.GetDefects(), "bare_newline")
			}
			require.Contains(t, string(r.blobs.get(p.GetRawBlob())), "MAIL FROM:<ceo@acme.example>")
		})
	}
}

// TestSMTPExtraCR sends a mail whose lines all end in CR CR LF, as some programs
// make of text that had CRLF already. The client sees the end of it.
func TestSMTPExtraCR(t *testing.T) {
	t.Parallel()
	server, trusting := certificate(t)
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			_, addr := serveSMTP(t, r, email.SMTPConfig{TLS: server})
			c := dialSMTP(t, addr)
			c.hello()
			if overTLS {
				c.startTLS(trusting)
				c.do("EHLO client.example", "250")
			}
			for i := range 2 {
				c.envelope()
				raw := strings.ReplaceAll(plain(fmt.Sprintf("cr%d@customer.example", i), "one\r\n.dot\r\ntwo"), "\r\n", "\r\r\n")
				c.send(strings.ReplaceAll(raw, "\n.", "\n..") + ".\r\n")
				require.Contains(t, c.reply(), "250")
				p := r.publisher.events("acme")[i].GetPayload().GetEmailReceived()
				require.Equal(t, raw, string(r.blobs.get(p.GetRawBlob())))
			}
			c.do("QUIT", "221")
		})
	}
}

func TestSMTPGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	for name, garbage := range map[string]string{
		"binary": "\x00\xff\x16\x03\x01" + strings.Repeat("\xfe", 3000) + "\r\n", "no end": strings.Repeat("A", 1<<20),
		"http": "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "empty lines": strings.Repeat("\r\n", 100),
		"long address":  "EHLO x\r\nMAIL FROM:<" + strings.Repeat("a", 20_000) + "@x>\r\n",
		"chunk of none": "EHLO x\r\nBDAT 4000000000\r\n" + strings.Repeat("x", 1<<20),
	} {
		c := dialSMTP(t, addr)
		_, _ = c.conn.Write([]byte(garbage)) // it may be cut off within
		_ = c.conn.(*net.TCPConn).CloseWrite()
		c.closed()
		require.Empty(t, r.publisher.events("acme"), name)
	}
	c := dialSMTP(t, addr)
	c.hello()
	c.do("QUIT", "221")
}

func TestSMTPBrokenOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{})
	c := dialSMTP(t, addr)
	c.hello()
	c.envelope()
	c.send(plain("cut@customer.example", "half of") + "\r\n.")
	require.NoError(t, c.conn.(*net.TCPConn).CloseWrite())
	c.closed()
	require.Empty(t, r.publisher.events("acme"), "a mail without its end is none")
}

func TestSMTPSlowClients(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{IdleTimeout: 50 * time.Millisecond})
	c := dialSMTP(t, addr)
	c.hello()
	require.Contains(t, c.reply(), "421", "who says nothing is told so")
	c.closed()
	c = dialSMTP(t, addr)
	c.hello()
	c.envelope()
	c.send("Subject: never")
	require.Contains(t, c.reply(), "4")
	c.closed()
	_, addr = serveSMTP(t, r, email.SMTPConfig{SessionTimeout: 100 * time.Millisecond})
	c = dialSMTP(t, addr)
	c.hello()
	for {
		c.send("NOOP\r\n")
		if strings.HasPrefix(c.reply(), "421") {
			break
		}
	}
	c.closed()
	require.Empty(t, r.publisher.events("acme"))
}

func TestSMTPConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	_, addr := serveSMTP(t, r, email.SMTPConfig{MaxConnections: 3})
	open := make([]*client, 3)
	for i := range open {
		open[i] = dialSMTP(t, addr)
		open[i].hello()
	}
	c := dialSMTP(t, addr)
	require.Contains(t, c.reply(), "421 4.3.2")
	c.closed()
	open[0].do("QUIT", "221")
	open[0].closed()
	require.Eventually(t, func() bool {
		c := dialSMTP(t, addr)
		return strings.HasPrefix(c.reply(), "220")
	}, deadline, 10*time.Millisecond)
}

// TestSMTPStops stops while one client waits and another one's mail is on its way.
func TestSMTPStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.publisher.wait = make(chan struct{})
	s, addr := serveSMTP(t, r, email.SMTPConfig{})
	idle, busy := dialSMTP(t, addr), dialSMTP(t, addr)
	idle.hello()
	busy.hello()
	busy.envelope()
	busy.send(plain("last@customer.example", "just in time"))
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		stopped <- s.Stop(ctx)
	}()
	require.Contains(t, idle.reply(), "421")
	idle.closed()
	busy.send(".\r\n")
	close(r.publisher.wait)
	require.Contains(t, busy.reply(), "250")
	require.Contains(t, busy.reply(), "421")
	busy.closed()
	require.NoError(t, <-stopped)
	require.Len(t, r.publisher.events("acme"), 1)
	_, err := net.DialTimeout("tcp", addr, time.Second)
	require.Error(t, err)
}

// TestSMTPCutsOff stops while a mail waits for what never comes.
func TestSMTPCutsOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.publisher.wait = make(chan struct{})
	s, addr := serveSMTP(t, r, email.SMTPConfig{})
	c := dialSMTP(t, addr)
	c.hello()
	c.envelope()
	c.send(plain("stuck@customer.example", "stuck") + ".\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	require.Empty(t, r.publisher.events("acme"))
}
