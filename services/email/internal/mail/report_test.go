package mail_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

func TestAutoReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header string
		want   mail.AutoReplyReason
	}{
		{"Subject: hello", ""},
		{"Auto-Submitted: no", ""},
		{"Auto-Submitted: auto-replied", mail.AutoSubmitted},
		{"Auto-Submitted: (x) Auto-Generated; owner=\"me\"", mail.AutoSubmitted},
		{"X-Autoreply: yes", mail.AutoVendor},
		{"X-Autorespond: Re: what you wrote", mail.AutoVendor},
		{"X-Autoreply: no", ""},
		{"X-Auto-Response-Suppress: DR, OOF, AutoReply", mail.AutoSuppress},
		{"X-Auto-Response-Suppress: All", mail.AutoSuppress},
		{"X-Auto-Response-Suppress: DR, RN, NRN", ""},
		{"X-Auto-Response-Suppress: None", ""},
		{"List-Id: Friends <friends.x.com>", mail.AutoList},
		{"List-Post: NO", ""},
		{"List-Unsubscribe: <mailto:a@x.com>", mail.AutoList},
		{"Precedence: bulk", mail.AutoPrecedence},
		{"Precedence: JUNK", mail.AutoPrecedence},
		{"Precedence: list", mail.AutoPrecedence},
		{"Precedence: auto_reply", mail.AutoPrecedence},
		{"Precedence: first-class", ""},
		{"Return-Path: <>", mail.AutoNullSender},
		{"Return-Path: < >", mail.AutoNullSender},
		{"Return-Path: <a@x.com>", ""},
		{"Sender: MAILER-DAEMON@x.com", mail.AutoDaemon},
		{"Subject: Automatic reply: your question", mail.AutoSubject},
		{"Subject: =?utf-8?q?R=C3=A9ponse_automatique_=3A_bonjour?=", mail.AutoSubject},
		{"Subject: Re: Automatic reply: your question", ""},
		{"Subject: How do I set up an out of office reply?", ""},
	} {
		m := parse("From: a@x.com", c.header, "", "hi")
		require.Equal(t, c.want, m.AutoReplyReason, "%s", c.header)
		require.Equal(t, c.want != "", m.AutoReply, "%s", c.header)
		require.Nil(t, m.Report)
	}
	require.Equal(t, "friends.x.com", parse("List-Id: =?utf-8?q?Friends?= <friends.x.com>", "", "").ListID)
	require.Equal(t, "friends.x.com", parse("List-Id: friends.x.com", "", "").ListID)
}

// dsn makes a delivery report of the fields of its second part.
func dsn(fields string) *mail.Mail {
	return parse("From: Mail Delivery System <MAILER-DAEMON@y.com>", "Return-Path: <>", "Message-ID: <report@y.com>",
		`Content-Type: multipart/report; report-type=delivery-status; boundary="b"`, "",
		"--b", "", "Sorry.", "--b", "Content-Type: message/delivery-status", "", fields,
		"--b", "Content-Type: text/rfc822-headers", "", "Received: x", "Message-ID: <sent@x.com>", "Subject: s", "--b--")
}

func TestDeliveryReport(t *testing.T) {
	t.Parallel()
	m := dsn(strings.Join([]string{
		"Reporting-MTA: dns; mx.y.com", "Arrival-Date: Mon, 26 Aug 2002 15:54:10 -0700", "",
		"Original-Recipient: rfc822;ann@y.com", "Final-Recipient: RFC822; ann@inner.y.com", "Action: failed", "Status: 5.1.1 (no such user)",
		"Remote-MTA: dns; inner.y.com", "Diagnostic-Code: smtp; 550 5.1.1", "  <ann@inner.y.com>: no such user", "",
		"Final-Recipient: rfc822; bob@y.com", "Action: delayed", "Status: 4.4.1", "",
		"Final-Recipient: rfc822; cat@y.com", "Action: Delivered", "Status: 2.0.0", "",
		"Final-Recipient: rfc822; dan@y.com", "Action: relayed", "",
		"Final-Recipient: rfc822; eve@y.com", "Action: expanded", "",
		"Final-Recipient: rfc822; fay@y.com", "Action: failed", "Status: 4.4.7", "",
		"Final-Recipient: rfc822; gus@y.com", "Action: failed", "Status: 5.0.0", "Diagnostic-Code: smtp; 552 5.2.2 mailbox full", "",
		"Final-Recipient: rfc822; hal@y.com", "Diagnostic-Code: smtp; 451 later", "",
		"Final-Recipient: rfc822; ivy@y.com", "Action: failed",
	}, "\n"))
	r := m.Report
	require.NotNil(t, r)
	require.Equal(t, mail.AutoReport, m.AutoReplyReason)
	require.Equal(t, mail.ReportDelivery, r.Kind)
	require.Equal(t, "rfc3464", r.Dialect)
	require.Equal(t, "sent@x.com", r.MessageID)
	require.Equal(t, "mx.y.com", r.ReportingMTA)
	require.Equal(t, "2002-08-26T22:54:10Z", r.ArrivalDate.UTC().Format("2006-01-02T15:04:05Z"))
	require.Equal(t, "Sorry.", m.Text)
	require.Len(t, m.Attachments, 2)
	require.Equal(t, mail.ReportRecipient{
		Final: "ann@inner.y.com", Original: "ann@y.com", Outcome: mail.OutcomePermanent, Status: "5.1.1",
		Diagnostic: "550 5.1.1 <ann@inner.y.com>: no such user", RemoteMTA: "inner.y.com",
	}, r.Recipients[0])
	require.Equal(t, "ann@y.com", r.Recipients[0].Address())
	require.Equal(t, "bob@y.com", r.Recipients[1].Address())
	var outcomes []string
	for _, to := range r.Recipients {
		outcomes = append(outcomes, fmt.Sprintf("%s %s %s", strings.TrimSuffix(to.Final, "@y.com"), to.Outcome, to.Status))
	}
	require.Equal(t, []string{
		"ann@inner.y.com permanent 5.1.1", "bob delayed 4.4.1", "cat delivered 2.0.0", "dan relayed ", "eve expanded ",
		"fay transient 4.4.7", "gus permanent 5.2.2", "hal transient ", "ivy permanent ",
	}, outcomes)
}

func TestBrokenDeliveryReports(t *testing.T) {
	t.Parallel()
	// The empty lines between recipients were lost.
	m := dsn("Reporting-MTA: dns; mx.y.com\nFinal-Recipient: rfc822; a@y.com\nAction: failed\nStatus: 5.1.1\nFinal-Recipient: rfc822; b@y.com\nAction: failed\nStatus: 5.1.2")
	require.Len(t, m.Report.Recipients, 2)
	require.Equal(t, "5.1.1", m.Report.Recipients[0].Status)
	require.Equal(t, "b@y.com", m.Report.Recipients[1].Final)

	m = dsn("nothing of this is a field")
	require.Empty(t, m.Report.Recipients)
	require.True(t, hasDefect(m, mail.DefectReport))

	m = dsn(strings.Repeat("Final-Recipient: rfc822; a@y.com\nAction: failed\n\n", 5000))
	require.Len(t, m.Report.Recipients, mail.MaxReportRecipients)
	require.True(t, hasDefect(m, mail.DefectReport))

	m = dsn("Final-Recipient: rfc822; " + strings.Repeat("a", 1000) + "\nAction: failed\nDiagnostic-Code: smtp; " + strings.Repeat("x", 5000))
	require.Empty(t, m.Report.Recipients[0].Final)
	require.Len(t, m.Report.Recipients[0].Diagnostic, 2000)
}

func TestDispositionNotification(t *testing.T) {
	t.Parallel()
	m := parse("From: ann@y.com", `Content-Type: multipart/report; report-type=disposition-notification; boundary=b`, "",
		"--b", "", "Your message was read.", "--b", "Content-Type: message/disposition-notification", "",
		"Reporting-UA: y.com; Mailer 1.0", "Original-Recipient: rfc822;ann@y.com", "Final-Recipient: rfc822;ann@y.com",
		"Original-Message-ID: <sent@x.com>", "Disposition: manual-action/MDN-sent-manually; displayed/error", "--b--")
	require.Equal(t, &mail.Report{
		Kind: mail.ReportDisposition, Dialect: "rfc8098", MessageID: "sent@x.com", ReportingMTA: "y.com; Mailer 1.0", Disposition: "displayed",
		Recipients: []mail.ReportRecipient{{Final: "ann@y.com", Original: "ann@y.com"}},
	}, m.Report)
	require.Equal(t, mail.AutoReport, m.AutoReplyReason)
}

func TestComplaint(t *testing.T) {
	t.Parallel()
	m := parse("From: feedback@y.com", `Content-Type: multipart/report; report-type=feedback-report; boundary=b`, "",
		"--b", "", "This is an abuse report.", "--b", "Content-Type: message/feedback-report", "",
		"Feedback-Type: abuse", "User-Agent: Feedback/1", "Version: 1", "Original-Mail-From: <us@x.com>", "Original-Rcpt-To: <ann@y.com>",
		"Received-Date: Mon, 26 Aug 2002 15:54:10 +0000", "Reporting-MTA: dns; mx.y.com",
		"--b", "Content-Type: message/rfc822", "", "From: us@x.com", "Message-ID: <sent@x.com>", "", "Buy.", "--b--")
	r := m.Report
	require.NotNil(t, r)
	require.Equal(t, mail.ReportComplaint, r.Kind)
	require.Equal(t, "abuse", r.FeedbackType)
	require.Equal(t, "sent@x.com", r.MessageID)
	require.Equal(t, "ann@y.com", r.Recipients[0].Final)
	require.Equal(t, 2002, r.ArrivalDate.Year())
}

// Reports of servers that do not follow RFC 3464, as they are written.
func TestTextBounces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, header, body, dialect string
		want                        []mail.ReportRecipient
	}{
		{"qmail", "Return-Path: <>\nFrom: MAILER-DAEMON@y.com\nSubject: failure notice", `Hi. This is the qmail-send program at y.com.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<ann@y.com>:
Sorry, no mailbox here by that name. (#5.1.1)

<bob@z.com>:
192.0.2.1 does not like recipient.
Remote host said: 450 4.2.1 try later
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.

Return-Path: <us@x.com>
Message-ID: <sent@x.com>
From: us@x.com
To: ann@y.com

Hello <cat@y.com>:
nobody
`, "qmail", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent, Status: "5.1.1", Diagnostic: "Sorry, no mailbox here by that name. (#5.1.1)"},
			{Final: "bob@z.com", Outcome: mail.OutcomeTransient, Status: "4.2.1", Diagnostic: "192.0.2.1 does not like recipient. Remote host said: 450 4.2.1 try later Giving up on 192.0.2.1."},
		}},
		{"exim", "Return-path: <>\nX-Failed-Recipients: ann@y.com\nAuto-Submitted: auto-replied\nFrom: Mail Delivery System <Mailer-Daemon@x.com>\nSubject: Mail delivery failed: returning message to sender", `This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  ann@y.com
    SMTP error from remote mail server after RCPT TO:<ann@y.com>:
    host mx.y.com [192.0.2.1]: 550 5.1.1 <ann@y.com>... User unknown

------ This is a copy of the message, including all the headers. ------

Return-path: <us@x.com>
Received: from us
Message-ID: <sent@x.com>

Hello
`, "exim", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent, Status: "5.1.1", RemoteMTA: "mx.y.com", Diagnostic: "SMTP error from remote mail server after RCPT TO:<ann@y.com>: host mx.y.com [192.0.2.1]: 550 5.1.1 <ann@y.com>... User unknown"},
		}},
		{"exim's warning", "Return-path: <>\nFrom: Mailer-Daemon@x.com\nSubject: Warning: message delayed 24 hours", `This message was created automatically by mail delivery software.
A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on x.com.

The following address(es) have not yet been delivered:

  ann@y.com

No action is required on your part.

Message-ID: <sent@x.com>
`, "exim", []mail.ReportRecipient{{Final: "ann@y.com", Outcome: mail.OutcomeDelayed}}},
		{"postfix", "Return-Path: <>\nFrom: MAILER-DAEMON@x.com (Mail Delivery System)\nSubject: Undelivered Mail Returned to Sender", `This is the Postfix program at host mail.x.com.

I'm sorry to have to inform you that the message returned
below could not be delivered to one or more destinations.

			The Postfix program

<ann@y.com>: host mx.y.com[192.0.2.1] said: 550 <ann@y.com>:
    Recipient address rejected: User unknown (in reply to RCPT TO command)

Received: by mail.x.com
Message-ID: <sent@x.com>
`, "postfix", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent, RemoteMTA: "mx.y.com", Diagnostic: "host mx.y.com[192.0.2.1] said: 550 <ann@y.com>: Recipient address rejected: User unknown (in reply to RCPT TO command)"},
		}},
		{"sendmail", "From: Mail Delivery Subsystem <MAILER-DAEMON@x.com>\nSubject: Returned mail: see transcript for details", `The original message was received at Mon, 26 Aug 2002 15:54:10 -0700

   ----- The following addresses had permanent fatal errors -----
<ann@y.com>
    (reason: 550 5.1.1 <ann@y.com>... User unknown)

   ----- Transcript of session follows -----
... while talking to mx.y.com.:
>>> RCPT To:<ann@y.com>
<<< 550 5.1.1 <ann@y.com>... User unknown

   ----- Original message follows -----

Message-Id: <sent@x.com>
`, "sendmail", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent, Status: "5.1.1", Diagnostic: "(reason: 550 5.1.1 <ann@y.com>... User unknown)"},
		}},
		{"exchange", "Return-Path: <>\nFrom: postmaster@y.com\nSubject: Undeliverable: Hello", `Your message

  To:      ann@y.com
  Subject: Hello
  Sent:    Mon, 26 Aug 2002 15:54:10 -0700

did not reach the following recipient(s):

ann@y.com on Mon, 26 Aug 2002 15:55:10 -0700
    The recipient name is not recognized
    The MTS-ID of the original message is: c=us;a= ;p=y

Message-ID: <sent@x.com>
`, "exchange", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent, Diagnostic: "The recipient name is not recognized The MTS-ID of the original message is: c=us;a= ;p=y"},
		}},
		{"only the field", "Return-Path: <>\nX-Failed-Recipients: ann@y.com, bob@y.com\nFrom: Mailer-Daemon@x.com", "It failed.", "exim", []mail.ReportRecipient{
			{Final: "ann@y.com", Outcome: mail.OutcomePermanent}, {Final: "bob@y.com", Outcome: mail.OutcomePermanent},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := parse(c.header, "Message-ID: <report@y.com>", "", c.body)
			require.NotNil(t, m.Report)
			require.Equal(t, mail.ReportDelivery, m.Report.Kind)
			require.Equal(t, c.dialect, m.Report.Dialect)
			require.Equal(t, c.want, m.Report.Recipients)
			if strings.Contains(c.body, "sent@x.com") {
				require.Equal(t, "sent@x.com", m.Report.MessageID)
			}
			require.Equal(t, mail.AutoReport, m.AutoReplyReason)
		})
	}
	// A customer who quotes a report reports nothing.
	m := parse("From: ann@y.com", "Subject: Fwd: failure notice", "", "What does this mean?", "", "Hi. This is the qmail-send program at y.com.", "<bob@y.com>:", "no mailbox")
	require.Nil(t, m.Report)
	require.False(t, m.AutoReply)
	// A mail system's mail that reports nothing known is automatic, but no report.
	m = parse("From: MAILER-DAEMON@y.com", "Subject: quota", "", "Your mailbox is full.")
	require.Nil(t, m.Report)
	require.Equal(t, mail.AutoDaemon, m.AutoReplyReason)
}
