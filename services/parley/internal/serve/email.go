package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/bloburl"
	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/server"
	"github.com/parleyhq/parley/pkg/tenant"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
	blobs "github.com/parleyhq/parley/services/blob"
	"github.com/parleyhq/parley/services/email"
)

// Mail sets inbound mail.
type Mail struct {
	// Addresses that take mail. Defaults to all of @parley.local, for tenant default.
	Addresses []MailAddress `flag:"mail-addresses" usage:"addresses that take mail, each an address or @domain with its tenant and queue, for example address=@example.com,tenant=default,queue=support"`
	// MaxBytes of a mail. Defaults to 32 MiB: an attachment of 20 MB fits.
	MaxBytes config.Bytes `flag:"mail-max-bytes" usage:"largest mail that is taken"`
	// Hostname is what SMTP calls itself. Defaults to parley.local.
	Hostname string `flag:"smtp-hostname" usage:"name that SMTP calls itself, for example mx.example.com"`
	// TLSCert and TLSKey are PEM files. Default to none: STARTTLS is not offered.
	TLSCert string `flag:"smtp-tls-cert" usage:"PEM file with the certificate for STARTTLS"`
	TLSKey  string `flag:"smtp-tls-key" usage:"PEM file with its private key"`
	// RequireTLS refuses mail in plain text. Defaults to false.
	RequireTLS bool `flag:"smtp-require-tls" usage:"refuse mail that does not come over TLS"`
	// MaxConnections of SMTP. Defaults to 200.
	MaxConnections int `flag:"smtp-max-connections" usage:"SMTP connections at a time"`
	// Relays are networks of one's own mail servers. Defaults to none; private networks always count.
	Relays []string `flag:"smtp-relays" usage:"networks of your own mail servers in front, beside private ones, for example 203.0.113.0/28"`
	// Authentication asks the DNS about senders. Defaults to true.
	Authentication bool `flag:"mail-authentication" usage:"check DKIM, SPF and DMARC of senders in the DNS"`
	// TrustedServers are believed in what they say of senders. Defaults to none.
	TrustedServers []MailServer `flag:"mail-trusted-servers" usage:"servers whose Authentication-Results are believed on relayed and imported mail, for example id=mx.example.com,fields=1"`
	// MailgunKey is the webhook signing key. Defaults to none: no such endpoint.
	MailgunKey config.Secret `flag:"mail-mailgun-key" usage:"HTTP webhook signing key of Mailgun; opens /v1/mail/mailgun"`
	// MailgunChecks believes Mailgun's spam filter. Defaults to false.
	MailgunChecks bool `flag:"mail-mailgun-checks" usage:"believe X-Mailgun-Spf and X-Mailgun-Dkim-Check-Result; only with Mailgun's spam filter on"`
	// Postmark's and SendGrid's URLs have user and password. Default to none: no such endpoints.
	PostmarkUser     string        `flag:"mail-postmark-user" usage:"user in the URL that Postmark calls"`
	PostmarkPassword config.Secret `flag:"mail-postmark-password" usage:"password in it; opens /v1/mail/postmark"`
	SendGridUser     string        `flag:"mail-sendgrid-user" usage:"user in the URL that SendGrid calls"`
	SendGridPassword config.Secret `flag:"mail-sendgrid-password" usage:"password in it; opens /v1/mail/sendgrid"`
}

// MailAddress is an address, or a whole domain, that takes mail.
type MailAddress struct {
	Address string `key:"address"`
	Tenant  string `key:"tenant"`
	Queue   string `key:"queue"`
}

// MailServer is a server whose Authentication-Results are believed.
type MailServer struct {
	ID string `key:"id"`
	// Fields is how many it writes on one mail. Defaults to 1.
	Fields int `key:"fields"`
}

// Blobs says where raw mails, attachments and long texts are kept.
type Blobs struct {
	// URL is a folder or a bucket. Defaults to blobs in the data directory.
	URL string `flag:"blobs" usage:"where raw mails and attachments are kept: a folder, or s3://bucket/prefix?endpoint=…&region=…; in the data directory unless given"`
	// AccessKey and SecretKey of S3. Default to the environment's or the machine's own.
	AccessKey string        `flag:"blobs-access-key" usage:"access key of S3"`
	SecretKey config.Secret `flag:"blobs-secret-key" usage:"secret key of S3"`
	// Secret of the blobs' names and keys. Defaults to one that is made once and kept in the data directory.
	Secret config.Secret `flag:"blobs-secret" usage:"secret that blobs' names and keys are derived from, at least 16 characters, the same in all processes; made once and kept in the data directory unless given"`
	// MaxBytes of a blob. Defaults to 64 MiB.
	MaxBytes config.Bytes `flag:"blobs-max-bytes" usage:"largest blob that is taken"`
}

// DefaultMailAddress takes mail where nothing is configured.
const DefaultMailAddress = "@parley.local"

func defaultMail() Mail {
	return Mail{
		Addresses: []MailAddress{{Address: DefaultMailAddress, Tenant: DefaultTenant}},
		MaxBytes:  email.DefaultMaxBytes, Hostname: "parley.local", MaxConnections: 200, Authentication: true,
	}
}

// check says what is wrong with the settings of mail.
func (m Mail) check(blobs Blobs) error {
	_, err := m.book()
	errs := []error{err}
	_, err = networks("smtp-relays", m.Relays)
	errs = append(errs, err)
	if m.MaxBytes <= 0 || m.MaxBytes > blobs.MaxBytes {
		errs = append(errs, fmt.Errorf("--mail-max-bytes %s: want more than nothing and at most --blobs-max-bytes, %s", m.MaxBytes, blobs.MaxBytes))
	}
	if m.Hostname == "" || len(m.Hostname) > 253 || strings.ContainsAny(m.Hostname, " \t\r\n<>@;()\"") {
		errs = append(errs, fmt.Errorf("--smtp-hostname %q: want a host name, for example mx.example.com", m.Hostname))
	}
	if m.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("--smtp-max-connections %d: want 1 or more", m.MaxConnections))
	}
	if m.RequireTLS && m.TLSCert == "" {
		errs = append(errs, errors.New("--smtp-require-tls needs --smtp-tls-cert and --smtp-tls-key"))
	}
	for _, s := range m.TrustedServers {
		if s.ID == "" || s.Fields < 0 {
			errs = append(errs, errors.New("--mail-trusted-servers: want id=… as the server names itself in Authentication-Results, and fields of 1 or more"))
		}
	}
	return errors.Join(errs...)
}

func (m Mail) book() (*email.Book, error) {
	addresses := make([]email.Address, len(m.Addresses))
	for i, a := range m.Addresses {
		addresses[i] = email.Address(a)
	}
	book, err := email.NewBook(addresses)
	return book, wrapFlag("mail-addresses", err)
}

// ownAddresses says that mail is taken for more than the default configuration does.
func (m Mail) ownAddresses() bool {
	for _, a := range m.Addresses {
		if !strings.HasSuffix(a.Address, DefaultMailAddress) {
			return true
		}
	}
	return false
}

// webhooks says that a vendor's endpoint is on.
func (m Mail) webhooks() bool {
	return m.MailgunKey != "" || m.PostmarkPassword != "" || m.SendGridPassword != ""
}

func (m Mail) webhookConfig() email.WebhookConfig {
	return email.WebhookConfig{
		MailgunKey: m.MailgunKey, MailgunChecks: m.MailgunChecks,
		Postmark: email.Credentials{User: m.PostmarkUser, Password: m.PostmarkPassword},
		SendGrid: email.Credentials{User: m.SendGridUser, Password: m.SendGridPassword},
	}
}

func (m Mail) tls() server.TLSFiles {
	return server.TLSFiles{CertFlag: "smtp-tls-cert", Cert: m.TLSCert, KeyFlag: "smtp-tls-key", Key: m.TLSKey}
}

func (b Blobs) check() error {
	var errs []error
	if err := bloburl.Check(b.URL); err != nil {
		errs = append(errs, wrapFlag("blobs", err))
	}
	if b.MaxBytes <= 0 {
		errs = append(errs, fmt.Errorf("--blobs-max-bytes %s: want more than nothing", b.MaxBytes))
	}
	return errors.Join(errs...)
}

// openMail opens the blobs and what makes events of mails.
func (p *process) openMail(ctx context.Context) error {
	if !p.has(Email) {
		return nil
	}
	var err error
	if p.vault, err = p.openBlobs(ctx); err != nil {
		return err
	}
	m := p.settings.Mail
	book, err := m.book()
	if err != nil {
		return err
	}
	relays, err := networks("smtp-relays", m.Relays)
	if err != nil {
		return err
	}
	cfg := email.Config{Book: book, Hostname: m.Hostname, MaxBytes: int64(m.MaxBytes), Relays: relays}
	for _, s := range m.TrustedServers {
		cfg.TrustedServers = append(cfg.TrustedServers, email.TrustedServer(s))
	}
	deps := email.Deps{
		Publisher: p.publisher(), Blobs: p.vault, Validator: p.validator, Now: p.opts.Now, Logger: p.log, Registerer: p.registry,
	}
	if m.Authentication {
		deps.Resolver = net.DefaultResolver
	}
	if p.mail, err = email.NewIntake(cfg, deps); err != nil {
		return fmt.Errorf("--mail-…: %w", err)
	}
	return nil
}

func (p *process) openBlobs(ctx context.Context) (*blob.Vault, error) {
	b := p.settings.Blobs
	opts := bloburl.Options{AccessKey: b.AccessKey, SecretKey: b.SecretKey}
	secret := []byte(b.Secret.Reveal())
	if p.dir != nil {
		opts.Dir = p.dir.file("blobs")
		var err error
		if secret, err = p.dir.blobSecret(b.Secret, p.opts.Random); err != nil {
			return nil, err
		}
	}
	store, err := bloburl.Open(ctx, b.URL, opts)
	if err != nil {
		return nil, fmt.Errorf("--blobs %s: %w", b.URL, err)
	}
	p.stack.Push("blobs", func(context.Context) error { return store.Close() })
	vault, err := blob.NewVault(store, secret, blob.Options{MaxBytes: int64(b.MaxBytes)})
	if err != nil {
		return nil, fmt.Errorf("--blobs-…: %w", err)
	}
	return vault, nil
}

// startEmail offers the import of mails, and what lies beside the log.
func (p *process) startEmail() error {
	service, err := email.NewService(p.mail)
	if err != nil {
		return err
	}
	emailv1.RegisterEmailServiceServer(p.grpc.Registrar(tenant.Record), service)
	blobs.NewServer(p.vault).Register(p.grpc.Registrar(tenant.Read))
	return nil
}
