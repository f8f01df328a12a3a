package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Address is a listen address with the flag that gave it, so that every error
// can name both.
type Address struct {
	// Flag without the dashes, for example `grpc-listen`.
	Flag string
	// Addr is host:port; port 0 is any free one.
	Addr string
}

func (a Address) String() string { return "--" + a.Flag + " " + a.Addr }

// Check says what is wrong with the address' form.
func (a Address) Check() error {
	host, port, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return fmt.Errorf("%s: want host:port, for example --%s 127.0.0.1:0 for any free port", a, a.Flag)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s: the port %q is no number from 0 to 65535", a, port)
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil && net.ParseIP(host) == nil && !validHost(host) {
			return fmt.Errorf("%s: %q is no host", a, host)
		}
	}
	return nil
}

func validHost(host string) bool {
	for _, c := range host {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return len(host) <= 253
}

// Loopback says whether only this machine can reach the address.
func (a Address) Loopback() bool {
	host, _, err := net.SplitHostPort(a.Addr)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Listen opens the address. Its errors name the flag and say what to do.
func (a Address) Listen(ctx context.Context) (net.Listener, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", a.Addr)
	if err == nil {
		return lis, nil
	}
	return nil, a.Explain(err)
}

// Explain turns the error of a listen into one that names the flag and says
// what to do; for parts that listen by themselves.
func (a Address) Explain(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: address already in use; stop what listens there, or choose another one, for example --%s 127.0.0.1:0 for any free port: %w", a, a.Flag, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: not allowed to listen there; choose a port above 1023: %w", a, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: this machine has no such address: %w", a, syscall.EADDRNOTAVAIL)
	default:
		return fmt.Errorf("%s: listen: %w", a, err)
	}
}
