"""Capability ids of LLB: what an engine announces, and what ops need.

Spec: `Capabilities` of the wire reference; the misspelt id is BuildKit's.
"""

from __future__ import annotations

from typing import Final

SETS_DEFAULT_PATH: Final = "exec.meta.setsdefaultpath"

LLB_CAPS: Final = frozenset(
    """
    source.image source.image.resolvemode source.image.layerlimit source.image.checksum
    source.local source.local.unique source.local.sessionid source.local.includepatterns
    source.local.followpaths source.local.excludepatterns source.local.sharedkeyhint
    source.local.differ source.local.metadatatransfer
    source.git source.git.keepgitdir source.git.fullurl source.git.httpauth
    source.git.knownsshhosts source.git.mountsshsock source.git.subdir source.git.checksum
    source.git.skipsubmodules source.git.signatureverify source.git.mtime
    source.git.fetchbycommit source.git.bundle source.git.checkoutbundle
    source.http source.http.auth source.http.checksum source.http.perm soruce.http.uidgid
    source.http.header source.http.signatureverify
    source.imageblob source.ocilayout source.buildop.llbfilename
    exec.meta.base exec.meta.cgroup.parent exec.meta.network exec.meta.network.proxy
    exec.meta.proxyenv exec.meta.security exec.meta.security.devices.v1
    exec.meta.setsdefaultpath exec.meta.ulimit exec.meta.cdi
    exec.meta.removemountstubs.recursive exec.meta.linux.resources
    exec.mount.bind exec.mount.bind.readwrite-nooutput exec.mount.cache
    exec.mount.cache.sharing exec.mount.cache.content exec.mount.selector exec.mount.tmpfs
    exec.mount.tmpfs.size exec.mount.secret exec.mount.ssh
    exec.cgroup exec.secretenv exec.validexitcode
    file.base file.rm.wildcard file.rm.nofollowsymlink file.copy.includeexcludepatterns
    file.copy.requiredpaths file.copy.alwaysreplaceexistingdestpaths file.copy.modestring
    file.symlink.create
    constraints platform meta.ignorecache meta.description meta.exportcache
    cache.gha cache.s3 cache.azblob
    mergeop diffop passthroughop
    exporter.image.annotations exporter.image.attestations exporter.sourcedateepoch
    exporter.multiple exporter.session
    source.policy source.policy.session gc.freespacefilter history.filter
    """.split()
)
