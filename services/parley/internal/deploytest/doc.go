// Package deploytest checks what lies in deploy/ against a process that runs:
// alert rules and dashboards name only metrics and labels that /metrics has,
// commands that the command line has, and each alert has its test for promtool.
package deploytest
