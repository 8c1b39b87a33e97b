{{/* Fails with every value that cannot work, and says what to do. The schema has checked types and ranges. */}}
{{- define "hypersender-grpc.validate" -}}
{{- $faults := list -}}
{{- range list "faultsOfSecrets" "faultsOfReplicas" "faultsOfPod" "faultsOfSizes" "faultsOfSettings" -}}
{{- $faults = concat $faults (include (printf "hypersender-grpc.%s" .) $ | fromYamlArray) -}}
{{- end -}}
{{- with $faults -}}
{{- fail (printf "%d value(s) at fault:\n  %s\n" (len .) (join "\n  " .)) -}}
{{- end -}}
{{- end }}

{{- define "hypersender-grpc.faultsOfSecrets" -}}
{{- $values := .Values -}}
{{- $passthrough := eq (toString $values.settings.credentials) "passthrough" -}}
{{- $sandbox := eq (toString $values.settings.sandbox) "true" -}}
{{- $tokens := or $values.apiKey.existingSecret $values.instances.existingSecret -}}
{{- if not (or $tokens $passthrough $sandbox) }}
- "apiKey.existingSecret: the service needs a token of Hypersender; name a Secret here or in instances.existingSecret"
{{- end }}
{{- if and $tokens $passthrough }}
- "settings.credentials: with passthrough each call brings its token; leave apiKey and instances empty"
{{- end }}
{{- if and $values.callers.toml $values.callers.existingSecret }}
- "callers.toml: given twice, here and by callers.existingSecret; set one of them"
{{- end }}
{{- if and $values.tls.clientCa.existingSecret (not $values.tls.existingSecret) }}
- "tls.clientCa.existingSecret: needs tls.existingSecret, because without TLS no client shows a certificate"
{{- end }}
{{- if and $values.tls.existingSecret (not $values.admin.enabled) }}
- "admin.enabled: must be true with tls.existingSecret, because the probes then go to the admin port"
{{- end }}
{{- with $values.avatars }}
{{- if and .enabled $passthrough }}
- "avatars.enabled: cannot be used with settings.credentials passthrough, because a browser brings no token"
{{- end }}
{{- if and .enabled $sandbox }}
- "avatars.enabled: cannot be used with settings.sandbox, whose images are served on loopback alone"
{{- end }}
{{- if and .enabled (not (or .url $values.callers.toml $values.callers.existingSecret)) }}
- "avatars.url: nothing to serve without it, unless there are callers"
{{- end }}
{{- if and .url (not .key.existingSecret) }}
- "avatars.key.existingSecret: avatars.url needs it; make a key with `openssl rand -hex 32`"
{{- end }}
{{- if and (or .url .key.existingSecret) (not .enabled) }}
- "avatars.enabled: must be true with avatars.url or avatars.key"
{{- end }}
{{- if and .key.existingSecret (not .url) }}
- "avatars.key.existingSecret: has no effect without avatars.url"
{{- end }}
{{- end }}
{{- if and $values.otlp.headers.existingSecret (not $values.otlp.endpoint) }}
- "otlp.headers.existingSecret: has no effect without otlp.endpoint"
{{- end }}
{{- if and $values.upstreamProxyAuth.existingSecret (not (index $values.settings "upstream-proxy")) }}
- "upstreamProxyAuth.existingSecret: has no effect without settings.upstream-proxy"
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfReplicas" -}}
{{- $values := .Values -}}
{{- with $values.store }}
{{- if and .url .file.enabled }}
- "store.url: given twice, here and by store.file.enabled; set one of them"
{{- end }}
{{- if contains "@" .url }}
- "store.url: holds a user or a password; use store.username and store.password.existingSecret"
{{- end }}
{{- if and (or .username .password.existingSecret .ca.existingSecret) (not .url) }}
- "store.url: must be set with store.username, store.password or store.ca"
{{- end }}
{{- if and .username (not .password.existingSecret) }}
- "store.password.existingSecret: must be set with store.username"
{{- end }}
{{- if and .ca.existingSecret .url (not (regexMatch "^(rediss|valkeys)://" .url)) }}
- "store.ca.existingSecret: needs TLS; begin store.url with rediss:// or valkeys://"
{{- end }}
{{- end }}
{{- $name := ternary "autoscaling.enabled" "replicas" $values.autoscaling.enabled }}
{{- $count := ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled | int }}
{{- if gt $count 1 }}
{{- if $values.store.file.enabled }}
- "{{ $name }}: {{ $count }} replicas cannot use one file; set store.url in place of store.file"
{{- else if not (or $values.store.url $values.allowReplicasWithoutStore) }}
- "{{ $name }}: {{ $count }} replicas without store.url ask WhatsApp {{ $count }} times as fast as
  settings.rate says; set store.url, or divide the rate and set allowReplicasWithoutStore"
{{- end }}
{{- end }}
{{- with $values.autoscaling }}
{{- if .enabled }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
- "autoscaling.minReplicas: is greater than autoscaling.maxReplicas"
{{- end }}
{{- if not (dig "requests" "cpu" "" $values.resources) }}
- "resources.requests.cpu: the autoscaler needs it, because its target is a part of it"
{{- end }}
{{- end }}
{{- end }}
{{- with $values.rollingUpdate }}
{{- $none := list "0" "0%" }}
{{- if and (has (toString .maxSurge) $none) (has (toString .maxUnavailable) $none) }}
- "rollingUpdate.maxSurge: cannot be 0 when rollingUpdate.maxUnavailable is 0 too, because no pod could be
  replaced"
{{- end }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfPod" -}}
{{- $values := .Values -}}
{{- $facts := include "hypersender-grpc.facts" . | fromYaml -}}
{{- if not $values.image.repository }}
- "image.repository: name the repository into which you pushed the image"
{{- end }}
{{- $name := include "hypersender-grpc.fullname" . }}
{{- if not (regexMatch "^[a-z]" $name) }}
- "fullnameOverride: the name {{ $name }} of the Services must begin with a letter; set one that does"
{{- end }}
{{- if lt (int $facts.grace) (int $facts.drain) }}
- "terminationGracePeriodSeconds: {{ $facts.grace }} is less than the {{ $facts.drain }} that a drain needs
  (drain.waitSeconds {{ $values.drain.waitSeconds }} + drain.timeoutSeconds {{ $values.drain.timeoutSeconds }} + 10)"
{{- end }}
{{- $ports := list (int $values.ports.grpc) }}
{{- if $values.admin.enabled }}{{ $ports = append $ports (int $values.ports.admin) }}{{ end }}
{{- if $values.avatars.enabled }}{{ $ports = append $ports (int $values.ports.avatars) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
- "ports: two of them are the same"
{{- end }}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.admin.enabled) }}
- "metrics.serviceMonitor.enabled: needs admin.enabled, because /metrics is on the admin port"
{{- end }}
{{- end }}

{{/* Memory and disk that are too small for the settings: the pod would be killed, or the store detach. */}}
{{- define "hypersender-grpc.faultsOfSizes" -}}
{{- $settings := .Values.settings -}}
{{- $cache := get $settings "cache-bytes" | default "96MiB" | include "hypersender-grpc.bytes" -}}
{{- $images := get $settings "avatars-bytes" | default "64MiB" | include "hypersender-grpc.bytes" -}}
{{- $needed := include "hypersender-grpc.bytes" "256MiB" | add $cache (ternary $images 0 .Values.avatars.enabled) -}}
{{- with dig "limits" "memory" "" .Values.resources }}
{{- $limit := include "hypersender-grpc.bytes" . }}
{{- if and $limit (lt (int64 $limit) (int64 $needed)) }}
- "resources.limits.memory: {{ . }} is less than the {{ div $needed 1048576 }} MiB for settings.cache-bytes,
  settings.avatars-bytes and the process"
{{- end }}
{{- end }}
{{- with .Values.store.file }}
{{- $bytes := get $settings "store-bytes" | default "1GiB" }}
{{- $room := sub (include "hypersender-grpc.bytes" .size) (include "hypersender-grpc.bytes" $bytes) }}
{{- if and .enabled (not .existingClaim) (le $room 0) }}
- "store.file.size: {{ .size }} must be more than settings.store-bytes ({{ $bytes }}), because the journal
  needs room too"
{{- end }}
{{- end }}
{{- end }}

{{- define "hypersender-grpc.faultsOfSettings" -}}
{{- $settings := .Values.settings -}}
{{- $others := include "hypersender-grpc.setByOthers" . | fromYaml -}}
{{- range $flag, $_ := $settings }}
{{- with index $others $flag }}
- {{ printf "settings.%s: the chart sets this flag; use %s" $flag . | quote }}
{{- end }}
{{- end }}
{{- with index $settings "upstream-proxy" }}
{{- if contains "@" . }}
- "settings.upstream-proxy: holds a user or a password; use upstreamProxyAuth.existingSecret"
{{- end }}
{{- if and $.Values.avatars.enabled (ne (index $settings "avatars-mode" | toString) "redirect") }}
- "settings.avatars-mode: must be redirect with settings.upstream-proxy, because images are downloaded
  without a proxy"
{{- end }}
{{- end }}
{{- end }}
